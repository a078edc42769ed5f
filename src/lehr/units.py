"""Units, fixed once: nats per token, tokens, updates, optimiser LR.

Every conversion between what logs print and what lehr stores lives here.
"""

from __future__ import annotations

import math

from lehr.errors import bad


def bits_per_byte_to_nats(bits_per_byte: float, bytes_per_token: float) -> float:
    """Convert a loss in bits per byte to nats per token.

    Parameters
    ----------
    bits_per_byte : loss as logged, in bits per byte of text.
    bytes_per_token : mean number of text bytes in a token, above 0.

    >>> round(bits_per_byte_to_nats(1.0, 1.0), 6)
    0.693147
    """
    if not bytes_per_token > 0:
        raise bad("bytes_per_token", "must be above 0", bytes_per_token, "measure it on the validation text")
    return bits_per_byte * bytes_per_token * math.log(2)


def tokens_for_steps(steps: float, batch_tokens: float) -> float:
    """Return the tokens that `steps` updates use.

    >>> tokens_for_steps(8, 128)
    1024
    """
    if not batch_tokens > 0:
        raise bad("batch_tokens", "must be above 0", batch_tokens, "give the batch size in tokens")
    return steps * batch_tokens


def steps_for_tokens(tokens: float, batch_tokens: float) -> int:
    """Return the number of updates that use `tokens` tokens, rounded up.

    >>> steps_for_tokens(1000, 128)
    8
    """
    if not batch_tokens > 0:
        raise bad("batch_tokens", "must be above 0", batch_tokens, "give the batch size in tokens")
    return math.ceil(tokens / batch_tokens)


def tokens_for_flops(flops: float, params: float) -> float:
    """Return the tokens that `flops` train a model of `params` non-embedding (for MoE: active) parameters on.

    By C = 6 N D (Kaplan et al., arXiv 2001.08361, section 2.1), which leaves out attention over long contexts.

    >>> tokens_for_flops(6e18, 1e8)
    10000000000.0
    """
    for name, value in (("flops", flops), ("params", params)):
        if not 0 < value < math.inf:
            raise bad(name, "must be above 0", value, "give a finite count")
    return flops / (6 * params)
