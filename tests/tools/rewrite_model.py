#!/usr/bin/env python3
"""Write a model's files another way, for tests: the values stay as they are.

usage: rewrite_model.py split FROM.gguf FOLDER/NAME   two parts, NAME-0000n-of-00002.gguf
       rewrite_model.py v2 FROM.gguf TO.gguf          version 2; four million further array elements
       rewrite_model.py mix FROM-FOLDER TO-FOLDER     bfloat16 in part as float32, in two shards
       rewrite_model.py f8 FROM-FOLDER TO-FOLDER      its matrices claim to be F8_E4M3
"""
import json, os, shutil, struct, sys

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


class Gguf:
    """Keys and tensor heads as they stand in the file; tensors as (name, head, type, bytes)."""

    def __init__(self, path):
        self.data, self.at = open(path, 'rb').read(), 8
        tensors, keys = self.number('Q'), self.number('Q')
        self.keys, self.key_count = self.take(lambda: [self.key() for _ in range(keys)]), keys
        heads = [(self.string(), [self.number('Q') for _ in range(self.number('I'))], self.number('I'),
                  self.number('Q')) for _ in range(tensors)]
        start = (self.at + 31) // 32 * 32
        ends = sorted([h[3] for h in heads] + [len(self.data) - start])
        self.tensors = [(n, s, t, self.data[start + o:start + min(e for e in ends if e > o)]) for n, s, t, o in heads]

    def number(self, kind):
        value, = struct.unpack_from('<' + kind, self.data, self.at)
        self.at += struct.calcsize(kind)
        return value

    def string(self):
        length = self.number('Q')
        self.at += length
        return self.data[self.at - length:self.at]

    def value(self, kind):
        if kind == 8:
            self.string()
        elif kind == 9:
            inner, count = self.number('I'), self.number('Q')
            for _ in range(count):
                self.value(inner)
        else:
            self.at += SIZES[kind]

    def key(self):
        self.string()
        self.value(self.number('I'))

    def take(self, read):
        begin = self.at
        read()
        return self.data[begin:self.at]


def text(value):
    return struct.pack('<Q', len(value)) + value


def write_gguf(path, version, keys, key_count, tensors):
    head = b'GGUF' + struct.pack('<IQQ', version, len(tensors), key_count) + keys
    data = b''
    for name, shape, kind, content in tensors:
        head += text(name) + struct.pack('<I', len(shape)) + struct.pack('<%dQ' % len(shape), *shape)
        head += struct.pack('<IQ', kind, len(data))
        data += content + bytes(-len(content) % 32)
    with open(path, 'wb') as file:
        file.write(head + bytes(-len(head) % 32) + data)


def split(source, target):
    gguf = Gguf(source)
    half = len(gguf.tensors) // 2
    for part, tensors in enumerate((gguf.tensors[:half], gguf.tensors[half:])):
        extra = b''.join(text(key) + struct.pack('<IH', 2, value)
                         for key, value in ((b'split.no', part), (b'split.count', 2)))
        extra += text(b'split.tensors.count') + struct.pack('<Ii', 5, len(gguf.tensors))
        write_gguf('%s-%05d-of-00002.gguf' % (target, part + 1), 3, (b'' if part else gguf.keys) + extra,
                   (0 if part else gguf.key_count) + 3, tensors)


def version_2(source, target):
    gguf = Gguf(source)
    big = text(b'made.up.array') + struct.pack('<IIQ', 9, 4, 4 << 20) + bytes(16 << 20)
    write_gguf(target, 2, gguf.keys + big, gguf.key_count + 1, gguf.tensors)


def read_safetensors(path):
    data = open(path, 'rb').read()
    size, = struct.unpack_from('<Q', data)
    return json.loads(data[8:8 + size]), data[8 + size:]


def write_safetensors(path, tensors):
    head, data = {}, b''
    for name, (dtype, shape, content) in tensors.items():
        head[name] = {'dtype': dtype, 'shape': shape, 'data_offsets': [len(data), len(data) + len(content)]}
        data += content
    head = json.dumps(head).encode()
    with open(path, 'wb') as file:
        file.write(struct.pack('<Q', len(head)) + head + data)


def rewrite(source, target, change):
    os.makedirs(target)
    for name in os.listdir(source):
        if not name.startswith('model'):
            shutil.copyfile(os.path.join(source, name), os.path.join(target, name))
    head, data = read_safetensors(os.path.join(source, 'model.safetensors'))
    head.pop('__metadata__', None)
    shards, where = [{}, {}], {}
    for i, (name, entry) in enumerate(head.items()):
        begin, end = entry['data_offsets']
        shards[i % 2][name] = change(i, entry['dtype'], entry['shape'], data[begin:end])
        where[name] = 'model-0000%d-of-00002.safetensors' % (i % 2 + 1)
    for i, tensors in enumerate(shards):
        write_safetensors(os.path.join(target, 'model-0000%d-of-00002.safetensors' % (i + 1)), tensors)
    with open(os.path.join(target, 'model.safetensors.index.json'), 'w') as file:
        json.dump({'weight_map': where}, file)


def widen(i, dtype, shape, content):
    if dtype != 'BF16' or i % 3:
        return dtype, shape, content
    return 'F32', shape, b''.join(b'\0\0' + content[k:k + 2] for k in range(0, len(content), 2))


def claim_f8(i, dtype, shape, content):
    return ('F8_E4M3', shape, content[:len(content) // 2]) if len(shape) == 2 else (dtype, shape, content)


if __name__ == '__main__':
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    how, source, target = sys.argv[1:]
    {'split': split, 'v2': version_2, 'mix': lambda s, t: rewrite(s, t, widen),
     'f8': lambda s, t: rewrite(s, t, claim_f8)}[how](source, target)
