"""Random changes of bytes, and of the fields of protobuf messages."""

import random
from typing import Any

import onnx
from google.protobuf.message import DecodeError

NUMBERS = (0, 1, -1, 2, 7, 127, 255, 2**15, 2**31 - 1, -(2**31), 2**31, 2**40, 2**62, -(2**63))
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e38, float("inf"), float("-inf"), float("nan"))
TEXTS = ("", "x", "N", "y", "step", "step.next", "Relu", "Loop", "If", "ai.onnx2snn", "a" * 3000,
         "\x1b[31m", "../../x", "\u202e", "0")  # fmt: skip


def mutated(chance: random.Random, seeds: list[bytes], *, is_model: bool) -> bytes:
    """A seed after one to five changes."""
    data = chance.choice(seeds)
    if is_model and chance.random() < 0.7:
        return _message(chance, data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5))):
        data = _bytes(chance, data, seeds)
    return data


def _bytes(chance: random.Random, data: bytes, seeds: list[bytes]) -> bytes:
    size = len(data)
    start = chance.randrange(size + 1)
    end = min(size, start + chance.choice((1, 1, 2, 4, 8, 64, 1024)))
    kind = chance.randrange(7)
    if kind <= 2 and size:
        index = chance.randrange(size)
        value = chance.choice((0, 1, 127, 128, 255, data[index] ^ (1 << chance.randrange(8))))
        return data[:index] + bytes([value]) + data[index + 1 :]
    if kind == 3:
        return data[:start] + data[end:]
    if kind == 4:
        return data[:end] + data[start:end] + data[end:]
    if kind == 5:
        return data[:start]
    other = chance.choice(seeds)
    cut = chance.randrange(len(other) + 1)
    return data[:start] + other[cut : cut + chance.choice((1, 8, 64, 512))] + data[start:]


def _message(chance: random.Random, data: bytes) -> bytes:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        return data
    for _ in range(chance.choice((1, 1, 2, 3))):
        _change(chance, _somewhere(chance, model))
    try:
        return bytes(model.SerializeToString())
    except (ValueError, UnicodeError):
        return data


def _somewhere(chance: random.Random, message: Any) -> Any:
    """A message inside this one, found by walking down at random."""
    while chance.random() < 0.85:
        parts: list[Any] = []
        for field, value in message.ListFields():
            if field.type == field.TYPE_MESSAGE:
                parts.extend([value] if hasattr(value, "ListFields") else value)
        if not parts:
            break
        message = chance.choice(parts)
    return message


def _change(chance: random.Random, message: Any) -> None:
    present = [field for field, _ in message.ListFields()]
    fields = present if present and chance.random() < 0.85 else message.DESCRIPTOR.fields
    field = chance.choice(list(fields))
    value = getattr(message, field.name)
    is_list = hasattr(value, "extend")
    if chance.random() < 0.15:
        message.ClearField(field.name)
    elif is_list and len(value) and chance.random() < 0.5:
        _shuffle(chance, value, field)
    elif field.type == field.TYPE_MESSAGE:
        if is_list:
            value.add()
        else:
            value.SetInParent()
    elif is_list:
        value.append(_scalar(chance, field))
    else:
        setattr(message, field.name, _scalar(chance, field))


def _shuffle(chance: random.Random, value: Any, field: Any) -> None:
    index = chance.randrange(len(value))
    if chance.random() < 0.5:
        del value[index]
    elif field.type == field.TYPE_MESSAGE:
        value.add().CopyFrom(value[index])
    else:
        value[index] = _scalar(chance, field)


def _scalar(chance: random.Random, field: Any) -> Any:
    if field.type == field.TYPE_STRING:
        return chance.choice(TEXTS)
    if field.type == field.TYPE_BYTES:
        return chance.choice((b"", b"\0", b"\xff" * 8, b"Relu", chance.randbytes(16)))
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return chance.choice(FLOATS)
    if field.type == field.TYPE_ENUM:
        return chance.choice([value.number for value in field.enum_type.values])
    number = chance.choice(NUMBERS)
    if field.type == field.TYPE_INT32:
        return max(-(2**31), min(2**31 - 1, number))
    if field.type == field.TYPE_UINT64:
        return abs(number)
    return number
