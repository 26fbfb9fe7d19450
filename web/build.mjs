// Builds the three files that the dashboard's server carries.
import { build } from 'esbuild';
import { copyFile, mkdir, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(new URL('.', import.meta.url));
const out = `${here}../crates/dashboard/assets`;

// The chart library's licence asks that its text goes with every copy. It is written once, in full, instead of its short comment.
const licence = (await readFile(`${here}node_modules/uplot/LICENSE`, 'utf8')).trim();
const banner = `/*! With uPlot, https://github.com/leeoniya/uPlot\n\n${licence}\n*/`;

await mkdir(out, { recursive: true });
await build({
  absWorkingDir: here,
  entryPoints: { app: 'src/main.ts' },
  outdir: out,
  bundle: true,
  minify: true,
  target: 'es2021',
  format: 'iife',
  charset: 'utf8',
  sourcemap: false,
  legalComments: 'none',
  banner: { js: banner, css: banner },
  logLevel: 'info',
});
await copyFile(`${here}src/index.html`, `${out}/index.html`);
