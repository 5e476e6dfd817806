"""Muon: momentum whose update is orthogonalised by a Newton-Schulz iteration, for weight matrices."""

import torch

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5


class Muon(torch.optim.Optimizer):
    def __init__(self, params, lr: float, momentum: float = 0.95):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            by_shape: dict[tuple, list] = {}
            for p in group["params"]:
                if p.grad is not None:
                    by_shape.setdefault(tuple(p.shape), []).append((p, self._nesterov(p, group["momentum"])))
            for (rows, columns), members in by_shape.items():
                scale = group["lr"] * max(1.0, rows / columns) ** 0.5
                updates = orthogonalised(torch.stack([update for _, update in members]))
                for (p, _), update in zip(members, updates):
                    p.add_(update, alpha=-scale)

    def _nesterov(self, p, momentum: float):
        state = self.state[p]
        if "buffer" not in state:
            state["buffer"] = torch.zeros_like(p)
        state["buffer"].lerp_(p.grad, 1 - momentum)
        return p.grad.lerp(state["buffer"], momentum)


def orthogonalised(x: torch.Tensor) -> torch.Tensor:
    """[n, rows, columns] -> the same with singular values pushed towards 1."""
    a, b, c = NEWTON_SCHULZ
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
