"""Without a GPU, Triton's kernels run in its interpreter. It has to know before it is imported, by whomever."""

import os

try:
    import torch
except ModuleNotFoundError:
    pass
else:
    if not torch.cuda.is_available():
        os.environ.setdefault("TRITON_INTERPRET", "1")
