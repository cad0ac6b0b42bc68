"""Pickles of strangers. A pickle is a program: it can name any function to call, make as much of a
few bytes as it likes, and announce as many objects as make a machine fall over.

The reader here knows the instructions that files of weights and of data sets have, and refuses
every other; which functions they may call, those who derive from it say.
"""

import pickle
from collections.abc import Callable
from typing import Any, ClassVar

# Bytes of one pickle without its pixels: of a thousand layers with their optimiser, half a million.
# As objects they take up to a hundred times that, and some seconds.
MAX_PICKLE = 2**21
_BULK = 2**12  # bytes in one piece, from which they are pixels and not instructions


class _Bounded:
    """A file of which no more than `MAX_PICKLE` bytes are read, but for large pieces if allowed."""

    def __init__(self, file: Any, bulk: bool):
        self._file, self._bulk, self._left = file, bulk, MAX_PICKLE

    def read(self, count: int) -> bytes:
        if self._bulk and count >= _BULK:
            return self._file.read(count)
        content = self._file.read(min(count, self._left))
        self._left -= len(content)
        if self._left <= 0:
            raise _too_long()
        return content

    def readline(self) -> bytes:
        line = self._file.readline(-1 if self._bulk else self._left)
        if not self._bulk or len(line) < _BULK:
            self._left -= len(line)
        if self._left <= 0:
            raise _too_long()
        return line


def _too_long() -> ValueError:
    return ValueError(f"a pickle of more than {MAX_PICKLE:,} bytes")


class _Instructions(dict[int, Any]):
    def __missing__(self, code: int) -> Any:
        raise ValueError(f"a pickle with the instruction {bytes([code])!r}, which is not allowed")


# Written in Python: the one in C takes memory for whatever number of objects the pickle announces.
class SafeUnpickler(pickle._Unpickler):
    """Makes numbers, texts, tuples, lists and dicts, and what `find_class` allows.

    Raises:
        ValueError: an instruction that is not allowed, a dict with a key twice, or with one that
            is neither a number nor a text; a pickle that is too long. It may raise anything else.
    """

    stack: list[Any]  # the names that pickle's own class has for these
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, file: Any, encoding: str, *, bulk: bool = False):
        """Args:
        file: what is left in it after the pickle is not read.
        encoding: of the byte strings of Python 2.
        bulk: whether it may have pieces of any size in it, as long as `file` has them.
        """
        super().__init__(_Bounded(file, bulk), encoding=encoding)

    def find_class(self, module: str, name: str) -> Any:
        """Returns what a pickle may call by this name."""
        raise ValueError(f"{ascii(f'{module}.{name}')[1:-1]} has no place in it")

    def new(self, kind: Any) -> Any:
        """Returns an object of a class that `find_class` gave."""
        raise ValueError("an object that is made in a way that is not allowed")

    def set_state(self, made: Any, state: Any) -> None:
        """Gives a state to what was made."""
        raise ValueError(f"a state for a {type(made).__name__}")

    def put(self, target: Any, items: list) -> None:
        """Sets items[1::2] by items[::2] in a dict."""
        if not isinstance(target, dict):
            raise ValueError(f"items for a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Of tuples of tuples, the hash alone can take for ever.
            if key is not None and type(key) not in (str, int, float, bool):
                raise ValueError(f"a dict with a {type(key).__name__} for a key")
            if key in target:
                raise ValueError(f"a dict that has {ascii(key)[:80]} twice")
            target[key] = value

    def _extend(self, items: list) -> None:
        if type(self.stack[-1]) is not list:
            raise ValueError(f"items for a {type(self.stack[-1]).__name__}")
        self.stack[-1].extend(items)

    def load_dict(self) -> None:
        items, made = self.pop_mark(), {}
        self.put(made, items)
        self.append(made)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.put(self.stack[-1], [key, value])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self.put(self.stack[-1], items)

    def load_append(self) -> None:
        self._extend([self.stack.pop()])

    def load_appends(self) -> None:
        self._extend(self.pop_mark())

    def load_newobj(self) -> None:
        self.stack.pop()
        self.append(self.new(self.stack.pop()))

    def load_build(self) -> None:
        state = self.stack.pop()
        self.set_state(self.stack[-1], state)

    _own: ClassVar = {
        pickle.DICT: load_dict,
        pickle.SETITEM: load_setitem,
        pickle.SETITEMS: load_setitems,
        pickle.APPEND: load_append,
        pickle.APPENDS: load_appends,
        pickle.NEWOBJ: load_newobj,
        pickle.BUILD: load_build,
    }
    _plain = (
        pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.POP, pickle.POP_MARK,
        pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE,
        pickle.INT, pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT,
        pickle.STRING, pickle.SHORT_BINSTRING, pickle.BINSTRING,
        pickle.BINUNICODE, pickle.SHORT_BINUNICODE, pickle.SHORT_BINBYTES, pickle.BINBYTES,
        pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3,
        pickle.EMPTY_LIST, pickle.LIST, pickle.EMPTY_DICT,
        pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE,
        pickle.GET, pickle.BINGET, pickle.LONG_BINGET,
        pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.REDUCE, pickle.BINPERSID,
    )  # fmt: skip
    dispatch = _Instructions(
        {code[0]: pickle._Unpickler.dispatch[code[0]] for code in _plain}
        | {code[0]: method for code, method in _own.items()}
    )
