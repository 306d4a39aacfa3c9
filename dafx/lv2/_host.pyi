"""What cffi compiles of `build_host`; its functions are typed in C alone."""

from typing import Any

ffi: Any
lib: Any
