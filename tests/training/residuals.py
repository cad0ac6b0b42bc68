"""What a forward pass keeps for its backward pass."""

import jax


def bytes_kept(loss_fn, params, batch_stats, batch) -> int:
    """Returns the size of everything kept, the arguments that are needed again included.

    Nothing is computed: the arrays may be shapes alone.
    """

    def residuals(params, batch_stats, batch):
        def loss(params):
            return loss_fn(params, batch_stats, batch, jax.random.key(0), None)

        return jax.vjp(loss, params, has_aux=True)[1]

    return size_of(jax.eval_shape(residuals, params, batch_stats, batch))


def size_of(tree) -> int:
    """Returns the bytes of all arrays."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
