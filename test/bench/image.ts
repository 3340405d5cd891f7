import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';

/** Places with what a server's disk holds: libraries, programs, documents, scripts. */
const places = ['/usr/lib', '/usr/bin', '/usr/share', '/usr/sbin', '/usr/include', '/var/lib/dpkg', '/etc'];
/** The rest of the disk is free space, as on most disks. */
const filled = 0.78;

/** A generator of numbers in [0, 1) that a seed fixes. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/**
 * An ext4 disk image with files of this machine, chosen by the seed. All of its blocks are allocated in the host's file, so that every tool reads the
 * same bytes. Returns the bytes of its files.
 */
export function makeImage(file: string, sizeBytes: number, seed: number): number {
  const tree = `${file}.tree`;
  fs.mkdirSync(tree);
  try {
    const bytes = fillTree(tree, sizeBytes * filled, seeded(seed));
    const sparse = `${file}.sparse`;
    fs.writeFileSync(sparse, '');
    fs.truncateSync(sparse, sizeBytes);
    const uuid = `00000000-0000-4000-8000-${seed.toString(16).padStart(12, '0')}`;
    const options = ['-q', '-F', '-t', 'ext4', '-b', '4096', '-m', '0', '-U', uuid, '-E', `hash_seed=${uuid}`, '-d', tree];
    execFileSync('mke2fs', [...options, sparse], { env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` } });
    execFileSync('cp', ['--sparse=never', sparse, file]);
    fs.rmSync(sparse);
    return bytes;
  } finally {
    fs.rmSync(tree, { recursive: true, force: true });
  }
}

/** Copies files in an order that the seed gives until there are enough bytes. */
function fillTree(tree: string, wantedBytes: number, random: () => number): number {
  const folders = places
    .filter((place) => fs.existsSync(place))
    .flatMap((place) => fs.readdirSync(place).map((name) => path.join(place, name)))
    .sort()
    .map((name) => ({ name, order: random() }))
    .sort((a, b) => a.order - b.order);
  let bytes = 0;
  let number = 0;
  const linked = new Set<number>();
  for (const { name } of folders) {
    for (const file of filesBelow(name)) {
      const { size, nlink, ino } = fs.lstatSync(file);
      if (size === 0 || bytes + size > wantedBytes) continue;
      // A file with many names (git's commands) is one file on a disk, not a hundred copies.
      if (nlink > 1 && linked.has(ino)) continue;
      linked.add(ino);
      // A flat tree with many folders: names matter less than contents, and no path gets too long.
      const folder = path.join(tree, `d${number >> 9}`);
      if ((number & 511) === 0) fs.mkdirSync(folder);
      fs.copyFileSync(file, path.join(folder, `${number}-${path.basename(file).slice(-60)}`));
      number += 1;
      // Small files take whole blocks of the file system.
      bytes += Math.ceil(size / 4096) * 4096;
    }
    if (bytes > wantedBytes * 0.995) break;
  }
  return bytes;
}

function filesBelow(place: string): string[] {
  const found: string[] = [];
  const look = (at: string) => {
    let stat: fs.Stats;
    try {
      stat = fs.lstatSync(at);
      fs.accessSync(at, fs.constants.R_OK);
    } catch {
      return; // gone or not ours to read
    }
    if (stat.isFile() && stat.size < 64 * 1024 * 1024) found.push(at);
    else if (stat.isDirectory()) for (const name of fs.readdirSync(at).sort()) look(path.join(at, name));
  };
  look(place);
  return found;
}

/** Replaces a share of the blocks in place, as a day of work on the machine would. */
export function changeImage(file: string, share: number, seed: number): void {
  const random = seeded(seed);
  const blockBytes = 1 << 20;
  const descriptor = fs.openSync(file, 'r+');
  try {
    const blocks = Math.floor(fs.fstatSync(descriptor).size / blockBytes);
    const block = Buffer.alloc(blockBytes);
    for (let changed = 0; changed < Math.round(blocks * share); changed += 1) {
      const from = Math.floor(random() * blocks);
      const to = Math.floor(random() * blocks);
      fs.readSync(descriptor, block, 0, blockBytes, from * blockBytes);
      // Real content elsewhere than before, and never the same twice.
      for (let at = 0; at < blockBytes; at += 4096) block.writeUInt32LE(Math.floor(random() * 4294967296), at);
      fs.writeSync(descriptor, block, 0, blockBytes, to * blockBytes);
    }
  } finally {
    fs.closeSync(descriptor);
  }
}
