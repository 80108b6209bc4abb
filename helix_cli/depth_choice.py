"""How deep to draft: what the user fixed, or what runs find out, beginning with what earlier ones found."""

from __future__ import annotations

import torch

from helix_cli.config import Config
from helix_cli.draft.depth import Depth, FixedDepth
from helix_cli.draft.profile import ProfileKey, depth_from, load_profile
from helix_cli.model.language_model import LanguageModel
from helix_cli.storage import Storage


def profile_key(
    config: Config, device: str, target: LanguageModel, weights: str, draft_weights: str | None
) -> ProfileKey:
    """What costs and acceptance depend on, as far as it is known before anything runs."""
    drafting = (config.draft.path or "", draft_weights or "", config.draft.dtype, str(config.draft.layers))
    return ProfileKey(
        device=device,
        models=(config.model.path, drafting[0]),
        formats=(f"{target.dtype} {target.kernel}", weights, *drafting[1:]),
        drafter=config.draft.kind,
        threads=torch.get_num_threads(),
    )


def choose_depth(config: Config, storage: Storage, key: ProfileKey) -> Depth:
    """Plain decoding where nothing drafts; what the user fixed, or what runs find out."""
    if config.draft.kind == "none":
        return FixedDepth(0)
    return FixedDepth(config.draft.k) if isinstance(config.draft.k, int) else depth_from(load_profile(storage, key))
