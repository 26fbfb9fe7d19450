"""Draws what netlab.py and train.py have measured, as SVG. Needs matplotlib.

Systems are told apart by marker and line style as well as by colour, so that a print in grey, or an eye that sees colours otherwise,
loses nothing. The colours are those of Okabe and Ito (2008).
"""

import argparse
import json
import os

import matplotlib
import matplotlib.ticker

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend is chosen first)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# colour, marker, line style, name for people
STYLES = {
    "signvote-sharded": ("#0072B2", "o", "-", "signvote, sharded"),
    "signvote-central": ("#56B4E9", "s", "-", "signvote, central"),
    "gloo-fp32": ("#000000", "^", "--", "Gloo, fp32"),
    "gloo-fp16": ("#D55E00", "v", "--", "Gloo, fp16"),
    "gloo-powersgd-1": ("#009E73", "D", ":", "Gloo, PowerSGD of rank 1"),
    "gloo-powersgd-2": ("#CC79A7", "P", ":", "Gloo, PowerSGD of rank 2"),
    "hook-vote": ("#0072B2", "*", "-", "signvote's hook in DDP"),
    "ddp-fp32": ("#000000", "<", "--", "DDP, fp32"),
    "ddp-fp16": ("#D55E00", ">", "--", "DDP, fp16 hook"),
    "gloo-powersgd-4": ("#E69F00", "h", ":", "Gloo, PowerSGD of rank 4"),
    "ddp-fp32-sgd": ("#000000", "^", "--", "DDP fp32, SGD"),
    "ddp-fp32-adam": ("#E69F00", "X", "--", "DDP fp32, Adam"),
    "ddp-fp16-sgd": ("#D55E00", "v", "--", "DDP fp16, SGD"),
    "ddp-powersgd": ("#009E73", "D", ":", "DDP PowerSGD of rank 1, SGD"),
    "local-sgd-8": ("#CC79A7", "P", "-.", "local SGD, averaged every 8 steps"),
}


def style(system, **more):
    colour, marker, line, name = STYLES[system]
    return {"color": colour, "marker": marker, "linestyle": line, "label": name, "linewidth": 1.4, "markersize": 5.5, **more}


def set_up():
    plt.rcParams.update(
        {
            "font.family": "sans-serif",
            "font.size": 9.5,
            # Text stays text: it can be searched, and the file is small.
            "svg.fonttype": "none",
            # Equal data, equal file.
            "svg.hashsalt": "signvote",
            "axes.grid": True,
            "grid.color": "#dddddd",
            "grid.linewidth": 0.6,
            "axes.axisbelow": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "figure.facecolor": "white",
        }
    )


def rate_name(mbit):
    return f"{mbit / 1000:g} Gb/s" if mbit >= 1000 else f"{mbit:g} Mb/s"


def where(result):
    machine = result["machine"]
    return f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}; {result['date'][:10]}"


def save(figure, path):
    # Without a date in it, the file changes only when the figures do.
    figure.savefig(path, format="svg", metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)
    print(path)


def exchange(result, path):
    """Time of an exchange by hosts, a panel for each rate; what the link itself needs, as a thin grey line with the system's marker."""
    runs = [row for row in result["runs"] if "median_ms" in row]
    rates = sorted({row["rate_mbit"] for row in runs})
    systems = [system for system in STYLES if any(row["system"] == system for row in runs)]
    figure, panels = plt.subplots(1, len(rates), figsize=(3.6 * len(rates) + 0.4, 4.2), sharey=True, squeeze=False)
    for panel, rate in zip(panels[0], rates):
        for system in systems:
            rows = sorted((row for row in runs if row["system"] == system and row["rate_mbit"] == rate), key=lambda row: row["hosts"])
            if not rows:
                continue
            hosts = [row["hosts"] for row in rows]
            limits = [row["limit_ms"] for row in rows]
            panel.plot(hosts, limits, **style(system, color="#aaaaaa", linewidth=0.8, markersize=3.5, markerfacecolor="white", label=None))
            middle = [row["median_ms"] for row in rows]
            panel.plot(hosts, middle, **style(system))
            panel.vlines(hosts, middle, [row["p95_ms"] for row in rows], color=STYLES[system][0], linewidth=0.8)
        numbers = sorted({row["hosts"] for row in runs})
        panel.set_yscale("log")
        panel.set_xticks(numbers)
        panel.set_xlim(numbers[0] - 1, numbers[-1] + 1)
        panel.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        panel.set_title(rate_name(rate))
        panel.set_xlabel("hosts, one worker each")
    panels[0][0].set_ylabel("milliseconds an exchange (log)")
    handles, labels = panels[0][0].get_legend_handles_labels()
    handles.append(plt.Line2D([], [], color="#aaaaaa", linewidth=0.8, marker="o", markersize=3.5, markerfacecolor="white"))
    labels.append("what the link alone needs, by its marker")
    figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncol=min(4, len(labels)), frameon=False)
    figure.suptitle(f"An exchange of {result['dim']:,} coordinates: medians, and up to the 95th percentile\n{where(result)}", fontsize=10)
    figure.tight_layout()
    save(figure, path)


def training(result, path):
    """Test accuracy over the wall time since training began."""
    figure, panel = plt.subplots(figsize=(7.2, 4.4))
    dim = 0
    for system in STYLES:
        for row in result["runs"]:
            if row["system"] != system or "curve" not in row:
                continue
            dim = row["dim"]
            points = [point for point in row["curve"] if point["seconds"] > 0]
            seconds = [point["seconds"] for point in points]
            every = max(1, len(points) // 9)
            panel.plot(seconds, [100 * point["accuracy"] for point in points], **style(system, markevery=every))
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    panel.set_xlabel("seconds since training began (log)")
    panel.set_ylabel("test accuracy, %")
    best = max(100 * point["accuracy"] for row in result["runs"] for point in row.get("curve", []))
    # What happens in the first steps is not what is compared.
    panel.set_ylim(max(60.0, best - 22), best + 1)
    panel.legend(frameon=False, fontsize=8.5, loc="lower right")
    model = f"mlp {result['hidden']}" if result["model"] == "mlp" else result["model"]
    panel.set_title(
        f"{model}, {dim:,} parameters: {result['hosts']} hosts at {rate_name(result['rate_mbit'])}, batch {result['batch']} a worker\n{where(result)}",
        fontsize=10,
    )
    figure.tight_layout()
    save(figure, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="JSON", help="files of netlab.py --json and train.py --json")
    parser.add_argument("--out", default=os.path.join(ROOT, "docs/img"), metavar="DIR")
    flags = parser.parse_args()
    set_up()
    os.makedirs(flags.out, exist_ok=True)
    for name in flags.files:
        with open(name) as file:
            result = json.load(file)
        if "model" in result:
            training(result, os.path.join(flags.out, f"training-{result['model']}.svg"))
        else:
            exchange(result, os.path.join(flags.out, "exchange.svg"))


if __name__ == "__main__":
    main()
