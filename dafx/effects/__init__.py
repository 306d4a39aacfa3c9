"""Effects as DDSP processors."""

from dafx.effects.plugins import LV2Plugin

__all__ = ['LV2Plugin']
