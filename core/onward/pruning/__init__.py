"""What is over is removed after a while, without anybody having to wait for it."""

from onward.pruning.prune import Pruned, count_old, prune, prune_daily

__all__ = ["Pruned", "count_old", "prune", "prune_daily"]
