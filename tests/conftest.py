"""One thread for every test: the models are tiny, and a machine that runs other things stays responsive."""

import atexit
import os
import shutil
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# What a test keeps between runs goes with it: neither the user's cache nor an earlier run may decide a result.
os.environ["HELIX_CACHE_DIR"] = tempfile.mkdtemp(prefix="helix-test-cache-")
atexit.register(shutil.rmtree, os.environ["HELIX_CACHE_DIR"], ignore_errors=True)

import torch  # noqa: E402

if not torch.cuda.is_available():
    # Triton looks once, when it is imported; its kernels then run on the CPU.
    os.environ.setdefault("TRITON_INTERPRET", "1")
