"""Gives Equinox modules in the reference the signature that Python sees.

griffe reads source without running it, and an Equinox module has no `__init__` there: its fields
make one. Names and their order are asked of the class itself; types and defaults are shown as they
stand in the source.
"""

import importlib
import inspect

import equinox as eqx
import griffe


class EquinoxSignatures(griffe.Extension):
    """For every class of the package that is an Equinox module without an `__init__` of its own."""

    def on_package(self, *, pkg, **_):
        for found in _classes(pkg, set()):
            if "__init__" not in found.members:
                live = getattr(importlib.import_module(found.module.path), found.name, None)
                if isinstance(live, type) and issubclass(live, eqx.Module):
                    found.set_member("__init__", _init(found, live))


def _classes(holder, seen):
    for member in list(holder.members.values()):
        if member.is_alias or member.path in seen:
            continue
        seen.add(member.path)
        if member.is_class and holder.is_module:
            yield member
        elif member.is_module:
            yield from _classes(member, seen)


def _init(found, live):
    parameters = [
        griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword),
    ]
    for parameter in inspect.signature(live).parameters.values():
        field = _field(found, live, parameter.name)
        shown = None
        if parameter.default is not inspect.Parameter.empty:
            shown = _default(field) or repr(parameter.default)
        parameters.append(
            griffe.Parameter(
                parameter.name,
                annotation=field.annotation if field is not None else None,
                kind=getattr(griffe.ParameterKind, parameter.kind.name.lower()),
                default=shown,
            )
        )
    return griffe.Function(
        "__init__", parent=found, parameters=griffe.Parameters(*parameters), returns="None"
    )


def _field(found, live, name):
    """The line of the source that declares a field, in the class or the nearest of its bases."""
    package = found.package
    for base in live.__mro__:
        if not base.__module__.startswith(f"{package.name}."):
            continue
        try:
            member = package[f"{base.__module__.removeprefix(package.name + '.')}.{base.__name__}"]
        except KeyError:
            continue
        if name in member.members and member.members[name].is_attribute:
            return member.members[name]
    return None


def _default(field):
    """The default's source: what is assigned, or the `default` of `eqx.field`."""
    value = field.value if field is not None else None
    if isinstance(value, griffe.ExprCall) and str(value.function).endswith("field"):
        named = {getattr(a, "name", None): getattr(a, "value", None) for a in value.arguments}
        return named.get("default")
    return value
