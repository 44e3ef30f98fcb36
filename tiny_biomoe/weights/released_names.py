"""The names that the authors' released checkpoint gives to the tensors of this network.

One rule a component, applied in order; `released_names` asserts that no two of ours meet in one of theirs.
Their index table of position biases (`attention_bias_idxs`) is a constant here and has no counterpart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# ours -> theirs. Stage numbers are handled by functions, because the released blocks count from 1 and
# place the layers between two stages inside the block list of the later one.
_SPECTRAL: tuple[tuple[str, str], ...] = (
    (r"^class_block\.attention_norm\.", "post_network.0.norm1."),
    (r"^class_block\.mlp_norm\.", "post_network.0.norm2."),
    (r"^class_block\.expand\.", "post_network.0.mlp.fc1."),
    (r"^class_block\.reduce\.", "post_network.0.mlp.fc2."),
    (r"^class_block\.attention\.", "post_network.0.attn."),
    (r"^stem\.convs\.", "patch_embed1.conv."),
    (r"^stem\.projection\.", "patch_embed1.proj."),
    (r"^stem\.", "patch_embed1."),
    (r"^norm\.", "norm4."),
    (r"\.mixer_norm\.", ".norm1."),
    (r"\.mlp_norm\.", ".norm2."),
    (r"\.mixer\.weight$", ".attn.complex_weight"),
    (r"\.mixer\.", ".attn."),
    (r"\.query\.", ".q."),
    (r"\.key_value\.", ".kv."),
    (r"\.projection\.", ".proj."),
    (r"\.mlp\.expand\.", ".mlp.fc1."),
    (r"\.mlp\.depthwise\.", ".mlp.dwconv.dwconv."),
    (r"\.mlp\.reduce\.", ".mlp.fc2."),
)
_WATERFALL: tuple[tuple[str, str], ...] = (
    (r"^patch_embedding\.", "patch_embed."),
    (r"\.attention\.position_bias$", ".mixer.m.attn.attention_biases"),
    (r"\.attention\.heads_qkv\.", ".mixer.m.attn.qkvs."),
    (r"\.attention\.heads_query\.", ".mixer.m.attn.dws."),
    (r"\.attention\.projection\.", ".mixer.m.attn.proj.1."),
    (r"\.squeeze_excite\.squeeze\.", ".se.fc1."),
    (r"\.squeeze_excite\.excite\.", ".se.fc2."),
    (r"\.conv\.", ".c."),
    (r"\.norm\.", ".bn."),
)
_FUSION = {"image_norm": "ln_img", "embedding_norm": "ln_e", "output_norm": "ln_out", "gate": "fcn.1"}


def released_name(name: str) -> str:
    """What the released checkpoint calls our tensor `name`.

    >>> released_name("spectral_encoder.blocks.2.mixer.key_value.bias")
    'enc1.block3.0.attn.kv.bias'
    >>> released_name("waterfall_encoder.merges.0.depthwise.conv.weight")
    'enc2.blocks2.1.conv2.c.weight'
    """
    component, rest = name.split(".", 1)
    if component == "spectral_encoder":
        rest = _substitute(rest, _SPECTRAL)
        rest = re.sub(r"^downsamples\.(\d)", lambda m: f"patch_embed{int(m[1]) + 2}", rest)
        rest = re.sub(r"^blocks\.(\d)", lambda m: f"block{int(m[1]) + 1}.0", rest)
        rest = re.sub(r"^stage_norms\.(\d)", lambda m: f"norm{int(m[1]) + 1}", rest)
        return f"enc1.{rest}"
    if component == "waterfall_encoder":
        return f"enc2.{_substitute(_waterfall_place(rest), _WATERFALL)}"
    return f"{_FUSION[component]}.{rest}"


def released_names(names: Iterable[str]) -> dict[str, str]:
    """Our tensor names with the released name of each.

    Raises
    ------
    ValueError
        Two of ours would be one of theirs.
    """
    mapping = {name: released_name(name) for name in names}
    if len(set(mapping.values())) != len(mapping):
        raise ValueError("two tensors share one released name")
    return mapping


def _substitute(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _waterfall_place(name: str) -> str:
    """Place a tensor of the second encoder in the released block lists.

    Stage 1 holds its block alone; each later stage holds mixer, merging, mixer, block (0, 1, 2, 3).
    """
    match = re.match(r"(blocks|merges)\.(\d)\.(.*)", name)
    if not match:
        return name
    kind, index, rest = match[1], int(match[2]), match[3]
    if kind == "blocks":
        where = f"blocks{index + 1}.{3 if index else 0}"
        mixer = {"before": ("dw0", "ffn0"), "after": ("dw1", "ffn1")}
        for side, (depthwise, network) in mixer.items():
            rest = re.sub(rf"^{side}\.depthwise\.", f"{depthwise}.m.", rest)
            rest = re.sub(rf"^{side}\.expand\.", f"{network}.m.pw1.", rest)
            rest = re.sub(rf"^{side}\.reduce\.", f"{network}.m.pw2.", rest)
        return f"{where}.{rest}"
    stage = f"blocks{index + 2}"
    for side, place in (("before", 0), ("after", 2)):
        rest = re.sub(rf"^{side}\.depthwise\.", f"{place}.0.m.", rest)
        rest = re.sub(rf"^{side}\.expand\.", f"{place}.1.m.pw1.", rest)
        rest = re.sub(rf"^{side}\.reduce\.", f"{place}.1.m.pw2.", rest)
    for layer, number in (("expand", 1), ("depthwise", 2), ("reduce", 3)):
        rest = re.sub(rf"^{layer}\.", f"1.conv{number}.", rest)
    rest = re.sub(r"^squeeze_excite\.", "1.squeeze_excite.", rest)
    return f"{stage}.{rest}"
