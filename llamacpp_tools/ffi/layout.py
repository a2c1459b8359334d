"""Does cffi lay out structs, number enums and type functions as the compiler of the library did?

The compiler's answer was measured when the library was built (`build.layout`); cffi's comes from the instance that
is about to be used. They are compared whole, in each process, before the first call: a wrong offset does not fail,
it writes into the neighbour.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from llamacpp_tools.build.layout import complete_records, fields_of, is_unnamed, member_count
from llamacpp_tools.errors import CheckFailed

_NAMED_IN_FULL = 6
_PLAIN = {"_Bool": "bool", "char": "char", "float": "float32", "double": "float64"}


def check_layout(ffi: Any, measured: dict[str, Any], where: str) -> None:
    """Compare all that `ffi` declares, but for functions, with what was measured.

    Args:
        ffi: the cffi instance.
        measured: the document that `build.layout.write_layout` wrote.
        where: the build's folder, for the sentence.

    Raises:
        CheckFailed: anything differs; the sentence names what, with both values.
    """
    found = [*_records(ffi, measured["records"]), *_enums(ffi, measured["enums"])]
    _refuse([*found, *_constants(ffi, measured)], where)


def check_functions(ffi: Any, lib: Any, names: Iterable[str], measured: dict[str, Any], where: str) -> None:
    """Compare the types of functions that `lib` has with what was measured.

    Raises:
        CheckFailed: one differs; the sentence names it, with both types.
    """
    _refuse(list(_functions(ffi, lib, names, measured["functions"])), where)


def words(ffi: Any, ctype: Any) -> str:
    """A type in the words of `native/llt_layout.h`: int32_t and int are `int32`, qualifiers are left out."""
    kind = ctype.kind
    if kind == "pointer":
        return f"{words(ffi, ctype.item)} *"
    if kind == "array":
        return f"{words(ffi, ctype.item)} [{ctype.length}]"
    if kind == "function":
        arguments = [words(ffi, argument) for argument in ctype.args] + ["..."] * ctype.ellipsis
        return f"{words(ffi, ctype.result)} (*)({', '.join(arguments)})"
    if kind == "primitive":
        return _PLAIN.get(ctype.cname) or _integer(ffi, ctype)
    if is_unnamed(ctype):
        return f"{kind} of {ffi.sizeof(ctype)} bytes"
    return str(ctype.cname)


def _integer(ffi: Any, ctype: Any) -> str:
    sign = "int" if int(ffi.cast(ctype, -1)) < 0 else "uint"
    return f"{sign}{8 * ffi.sizeof(ctype)}"


def _refuse(differences: list[str], where: str) -> None:
    if not differences:
        return
    said = "; ".join(differences[:_NAMED_IN_FULL])
    more = len(differences) - _NAMED_IN_FULL
    said += f"; and {more} more" if more > 0 else ""
    raise CheckFailed(
        f"the declarations in {where} are not what its library was compiled with ({said}): run `llt build` again"
    )


def _records(ffi: Any, measured: dict[str, Any]) -> Iterator[str]:
    declared = complete_records(ffi)
    yield from _lacking("", declared, measured)
    for name in declared:
        if name in measured:
            yield from _record(ffi, name, measured[name])


def _record(ffi: Any, name: str, measured: dict[str, Any]) -> Iterator[str]:
    ctype = ffi.typeof(name)
    if ctype.kind == "struct":
        yield from _unequal(f"the number of members of {name}", measured["members"], member_count(ffi, ctype))
    found = {path: values for path, *values in measured["fields"]}
    believed = {
        path: (words(ffi, kind), offset, ffi.sizeof(kind)) for path, kind, offset in fields_of(ffi, ctype)
    }
    yield from _lacking(f"{name}.", list(believed), found)
    for path, own in believed.items():
        for what, theirs, mine in zip(("type", "offset", "size"), found.get(path, own), own, strict=True):
            yield from _unequal(f"the {what} of {name}.{path}", theirs, mine)
    yield from _unequal(f"the size of {name}", measured["size"], ffi.sizeof(ctype))
    yield from _unequal(f"the alignment of {name}", measured["align"], ffi.alignof(ctype))


def _enums(ffi: Any, measured: dict[str, str]) -> Iterator[str]:
    for name, kind in measured.items():
        try:
            ctype = ffi.typeof(name)
        except ffi.error:
            yield f"{name} is not declared"
            continue
        yield from _unequal(f"the type of {name}", kind, _integer(ffi, ctype))


def _constants(ffi: Any, measured: dict[str, Any]) -> Iterator[str]:
    constants = measured["constants"]
    # What is declared as neither would be a constant or a function that only the declarations have.
    yield from _lacking("", dir(ffi.dlopen(None)), constants.keys() | measured["functions"].keys())
    for name, value in constants.items():
        try:
            yield from _unequal(name, value, ffi.integer_const(name))
        except (AttributeError, ffi.error):
            continue


def _functions(ffi: Any, lib: Any, names: Iterable[str], measured: dict[str, str]) -> Iterator[str]:
    for name in names:
        if name not in measured:
            yield f"{name} is not in the headers"
        else:
            yield from _unequal(
                f"the type of {name}", measured[name], words(ffi, ffi.typeof(getattr(lib, name)))
            )


def _lacking(prefix: str, declared: list[str], measured: Iterable[str]) -> Iterator[str]:
    known, own = set(measured), set(declared)
    yield from (f"{prefix}{name} is not in the headers" for name in declared if name not in known)
    yield from (f"{prefix}{name} is not declared" for name in sorted(known - own))


def _unequal(what: str, measured: object, believed: object) -> Iterator[str]:
    if measured != believed:
        yield f"{what} is {measured} in the headers and {believed} in the declarations"
