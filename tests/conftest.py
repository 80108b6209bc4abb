"""One thread for every test: the models are tiny, and a machine that runs other things stays responsive."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
