"""The network in whole numbers: ``convert --precision int8``.

Laws. Every signal is real value = unit · integer, with units per channel, and

    weights     W[o] = s_o · Wq[o] with |Wq| ≤ 127; input units go into W first; s_o is the unit out
    bias        round(b_o / s_o)
    threshold   Θ = round(θ / unit), at least 1; a spike is the integer 1 in units of Θ · unit,
                so what rounding does to θ is made good by the weights behind
    branches    that meet share a unit: s_o is the largest that one of them needs, spikes that
                arrive without weights take the integer factor nearest to (their unit / s_o)
    identity    a neuron of the identity stands between weights that follow weights
    pooling     averages are sums in units of 1/k²; maxima keep their unit
    input       round(x / step), cut to ±(2^b − 1), b from 11 down
    answer      sum over t, divided by t, times one float scale

Proof that engines agree. Integers lie in float32 tensors. For each operator the largest magnitude
of any partial sum, Σ|Wq|·|n| of one sign plus |bias|, is computed from the bounds of its inputs; it
must be below 2^24, where float32 adds whole numbers exactly in every order and tiling. If not, an
input gets fewer bits, else the weights of this operator do, else the network is refused. Sums over
time are int32: with largest magnitude B of one step they hold for T ≤ (2^31 − 1 − 2Θ) / B, that is
for 125 steps at least; running maxima stay in float32 and hold for T < 2^24 / B. The smallest T of
all is stored in the file, and the runtime refuses more. Where nothing larger than 2^11 meets
weights (``largest_factor`` in the file), factors are exact in TF32 and fp16 too, so tensor cores
that add in float32 agree as well; algorithms that transform weights (Winograd, FFT) do not.
"""
