"""The shapes of ResNet-50's parameters, and what PowerSGD sends of them. Python's standard library only."""

from math import prod


def shapes():
    """The parameters of ResNet-50 (He et al. 2015, as in torchvision), in the order of its modules: 25,557,032 in all."""
    shapes = [(64, 3, 7, 7), (64,), (64,)]
    inputs = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            for shape in ((width, inputs, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)):
                # A convolution, and the scale and shift of its batch normalisation.
                shapes += [shape, (shape[0],), (shape[0],)]
            if block == 0:
                shapes += [(4 * width, inputs, 1, 1), (4 * width,), (4 * width,)]
            inputs = 4 * width
    return shapes + [(1000, 2048), (1000,)]


PARAMETERS = sum(prod(shape) for shape in shapes())
assert PARAMETERS == 25_557_032


def powersgd_floats(rank):
    """How many f32 a worker hands to all-reduce in a step of torch's hook: P and Q of every matrix that is worth it at the hook's
    default min_compression_rate of 2, and all other tensors whole."""
    total = 0
    for shape in shapes():
        count = prod(shape)
        rows = shape[0]
        columns = count // rows
        factors = (rows + columns) * rank
        total += factors if len(shape) > 1 and factors * 2 < count else count
    return total
