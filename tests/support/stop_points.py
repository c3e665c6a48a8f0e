"""Ends of a training at a chosen point: a stop that is asked for, and a kill."""

from lapa_ray.core.stop import StopRequest


class StopAt(StopRequest):
    """Asked before each update; true from the `after`th time on."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def __bool__(self) -> bool:
        self.left -= 1
        return self.left < 0


class PowerCutError(Exception):
    pass


class PowerCutAt(StopAt):
    def __bool__(self) -> bool:
        if super().__bool__():
            raise PowerCutError
        return False
