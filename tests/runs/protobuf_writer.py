"""Fields of protobuf messages as bytes, written anew: the readers are held against them."""


def varint(value):
    """Encode a whole number; a negative one as its two's complement of 64 bits."""
    value &= (1 << 64) - 1
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def part(number, data):
    """Encode a field of bytes."""
    return varint(number << 3 | 2) + varint(len(data)) + data
