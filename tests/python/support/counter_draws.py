"""Switchyard's counter-based draws, written anew from what base/random.h promises: Philox4x32-10 (Salmon et al., SC'11)
under a key made of a seed and a name."""

MASK = 0xFFFFFFFF


def philox(counter, key):
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        low, high = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (high >> 32) ^ c1 ^ k0, high & MASK, (low >> 32) ^ c3 ^ k1, low & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c0, c1, c2, c3


def fnv1a(name):
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


class RandomStream:
    def __init__(self, seed, purpose):
        name = fnv1a(purpose)
        self.key = philox((name & MASK, name >> 32, 0, 0), (seed & MASK, seed >> 32))[:2]

    def uniform(self, index, stream=0):
        block = index // 4
        bits = philox((block & MASK, block >> 32, stream & MASK, stream >> 32), self.key)[index % 4]
        return (bits >> 8) * 2.0**-24
