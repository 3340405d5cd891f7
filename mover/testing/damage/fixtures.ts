/** Damaged repositories as files: `mover/testing/damage/fixtures/<name>.zst`, all objects of one in a JSON document, compressed. */
import fs from 'node:fs';
import path from 'node:path';
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { protoRoot } from '../../../proto/loader';
import { makeFolder } from '../../stores/make-folder';
import { objectNames, type SampleRepository } from './sample-repository';

interface Fixture {
  readonly sample: SampleRepository;
  /** Contents in base64 by object name. */
  readonly objects: Readonly<Record<string, string>>;
}

const fileOf = (name: string) => path.join(protoRoot, '..', 'mover', 'testing', 'damage', 'fixtures', `${name}.zst`);

export function hasFixture(name: string): boolean {
  return fs.existsSync(fileOf(name));
}

/** Keeps the repository below `folder`. */
export function writeFixture(name: string, folder: string, sample: SampleRepository): void {
  // Leases are of the process that made it; that on maintenance was given up, and says which roster counts.
  const kept = objectNames(folder).filter((object) => !object.startsWith('writers/'));
  const read = (object: string) => fs.readFileSync(path.join(folder, 'repository', object)).toString('base64');
  const fixture: Fixture = { sample, objects: Object.fromEntries(kept.map((object) => [object, read(object)])) };
  fs.mkdirSync(path.dirname(fileOf(name)), { recursive: true });
  fs.writeFileSync(fileOf(name), zstdCompressSync(JSON.stringify(fixture)));
}

/** Lays a fixture out below `folder`. */
export async function layOutFixture(name: string, folder: string): Promise<SampleRepository> {
  const { sample, objects } = JSON.parse(zstdDecompressSync(fs.readFileSync(fileOf(name))).toString('utf8')) as Fixture;
  for (const [object, content] of Object.entries(objects)) {
    const file = path.join(folder, 'repository', object);
    await makeFolder(path.dirname(file));
    fs.writeFileSync(file, Buffer.from(content, 'base64'));
  }
  return sample;
}
