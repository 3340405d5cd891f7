/**
 * Makes the damaged repositories of fixtures/ anew: `node dist/mover/testing/damage/write-fixtures.js [NAME...]`, all without a name. Like golden bytes they
 * are made once per version of the format: one that exists is left alone.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { testKey } from '../test-repository';
import { inflict, namedDamages } from './damages';
import { hasFixture, writeFixture } from './fixtures';
import { makeSampleRepository } from './sample-repository';

async function main(names: readonly string[]): Promise<void> {
  for (const damage of namedDamages) {
    if ((names.length > 0 && !names.includes(damage.name)) || hasFixture(damage.name)) continue;
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-fixture-'));
    try {
      const sample = await makeSampleRepository(folder, damage.isEncrypted ? testKey : undefined);
      inflict(damage, folder, sample);
      writeFixture(damage.name, folder, sample);
      console.log(damage.name);
    } finally {
      fs.rmSync(folder, { recursive: true, force: true });
    }
  }
}

void main(process.argv.slice(2));
