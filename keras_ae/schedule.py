"""How fast training goes: the rate of a step, and how long its average remembers."""

import keras
from keras import ops

WARM_UP_STEPS = 50
MAX_DECAY = 0.999


@keras.saving.register_keras_serializable("keras_ae")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly to `rate` over `steps` steps and stays there, wherever the ladder ends."""

    def __init__(self, rate: float, steps: int = WARM_UP_STEPS):
        self.rate, self.steps = rate, steps

    def __call__(self, step):
        return self.rate * ops.minimum(1.0, (ops.cast(step, "float32") + 1.0) / self.steps)

    def get_config(self):
        return {"rate": self.rate, "steps": self.steps}


def average_decay(step):
    """Decay of the moving average: it spans the last tenth of the steps, 1,000 at most."""
    return ops.minimum(MAX_DECAY, (1.0 + step) / (10.0 + step))
