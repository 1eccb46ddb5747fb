"""A bidirectional GRU for CPUs, with one product per step for both directions.

It computes the same numbers as `torch.nn.GRU` (Cho et al., 2014, in PyTorch's form). On a CPU,
`torch.nn.GRU` has a product per direction, and adds to the gradient of the weights at every step;
here that gradient is one product over all steps. benchmarks/train.py measures both.

Axes: W is the width of a state, S of the states of both directions, G of three gates (3W). The axis
of size 2 is the direction; the second direction reads the window from its end.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable

PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def bidirectional_gru(gru: nn.GRU, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T S"]:
    """Return the forward and backward states of a bidirectional GRU layer with `batch_first`."""
    weights = [
        torch.stack([getattr(gru, f"{name}_l0"), getattr(gru, f"{name}_l0_reverse")])
        for name in PARAMETERS
    ]
    rows = x.transpose(0, 1)  # (T, B, D)
    states: Tensor = _Recurrence.apply(torch.stack([rows, rows.flip(0)]), *weights)  # pyright: ignore[reportAssignmentType]
    forward, backward = states
    return torch.cat([forward, backward.flip(0)], dim=-1).transpose(0, 1)


class _Recurrence(torch.autograd.Function):
    """The states of both directions (2, T, B, W) from rows, and their gradient.

    Weights have the gates in the order of `nn.GRU`: r, z, n. Each step saves n, r, z and m, the
    part of n that depends on the state, so that n, r, z (which depend on the row) are contiguous,
    and so are r, z, m (which depend on the state).

        h' = n + z (h - n),  n = tanh(x_n + r m),  m = W_hn h + b_hn
    """

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # no state is rounded on its way
    def forward(
        ctx: Any,
        x: Float[Tensor, "2 T B D"],
        w_ih: Float[Tensor, "2 G D"],
        w_hh: Float[Tensor, "2 G W"],
        b_ih: Float[Tensor, "2 G"],
        b_hh: Float[Tensor, "2 G"],
    ) -> Float[Tensor, "2 T B W"]:
        (_, n_steps, n_windows, _), width = x.shape, w_hh.shape[2]
        gates = x.new_empty(2, n_steps, n_windows, 4 * width)
        of_row = b_ih.roll(width, 1)  # n, r, z
        of_row[:, width:] += b_hh[:, : 2 * width]
        torch.baddbmm(
            of_row.unsqueeze(1),
            x.flatten(1, 2),
            w_ih.roll(width, 1).transpose(1, 2),
            out=gates.flatten(1, 2)[..., : 3 * width],
        )
        gates[..., 3 * width :] = b_hh[:, None, None, 2 * width :]
        states = x.new_zeros(2, n_steps + 1, n_windows, width)
        h = states.unbind(1)
        n, r, z, m = (gate.unbind(1) for gate in gates.split(width, -1))
        rz, rzm = gates[..., width : 3 * width].unbind(1), gates[..., width:].unbind(1)
        # Few and large operations, because each takes microseconds to start. A product of small
        # matrices takes half the time if its operands and its result are contiguous.
        of_state, back = x.new_empty(2, n_windows, 3 * width), w_hh.transpose(1, 2).contiguous()
        for t in range(n_steps):
            rzm[t].add_(torch.bmm(h[t], back, out=of_state))
            rz[t].sigmoid_()
            n[t].addcmul_(r[t], m[t]).tanh_()
            torch.lerp(n[t], h[t], z[t], out=h[t + 1])
        ctx.save_for_backward(x, gates, states, w_ih, w_hh)
        return states[:, 1:]

    @staticmethod
    @once_differentiable
    @custom_bwd(device_type="cpu")
    def backward(ctx: Any, gradient: Float[Tensor, "2 T B W"]) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, gates, states, w_ih, w_hh = ctx.saved_tensors
        _, n_steps, n_windows, width = gradient.shape
        n, r, z, m = gates.split(width, -1)
        # The factor of the gradient at h' for each gate, computed for all steps at once.
        factors = gates.new_empty(2, n_steps, n_windows, 4, width)
        by_n, by_r, by_z, by_m = factors.unbind(3)
        by_n.copy_(torch.ops.aten.tanh_backward(1 - z, n))
        by_r.copy_(torch.ops.aten.sigmoid_backward(by_n * m, r))
        by_z.copy_(torch.ops.aten.sigmoid_backward(states[:, :-1] - n, z))
        torch.mul(by_n, r, out=by_m)
        of_gates = torch.empty_like(factors)  # gradient of each gate's argument
        d_gates, d_rzm = of_gates.unbind(1), of_gates[..., 1:, :].flatten(3).unbind(1)
        d_states, by, keep = gradient.unbind(1), factors.unbind(1), z.unbind(1)
        d_h = d_states[-1]
        for t in range(n_steps - 1, -1, -1):
            torch.mul(by[t], d_h.unsqueeze(2), out=d_gates[t])
            if t:
                d_h = torch.addcmul(d_states[t - 1], d_h, keep[t])
                torch.baddbmm(d_h, d_rzm[t], w_hh, out=d_h)
        flat = of_gates.flatten(1, 2).flatten(2)  # (2, T * B, 4W)
        d_row, d_state = flat[..., : 3 * width], flat[..., width:]
        d_bias = torch.bmm(flat.new_ones(2, 1, flat.shape[1]), flat).squeeze(1)
        return (
            torch.bmm(d_row, w_ih.roll(width, 1)).view_as(x),
            torch.bmm(d_row.transpose(1, 2), x.flatten(1, 2)).roll(-width, 1),
            torch.bmm(d_state.transpose(1, 2), states[:, :-1].flatten(1, 2)),
            d_bias[:, : 3 * width].roll(-width, 1),
            d_bias[:, width:],
        )
