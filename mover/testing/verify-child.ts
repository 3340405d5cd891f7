/**
 * A process that verifies a repository, going on from what earlier ones noted, and dies by SIGKILL at the n-th of its steps: before a read of a pack, or before or after it
 * notes one as verified. `node verify-child.js FOLDER N`. What it has read of packs, it appends to FOLDER/reads: `NAME OFFSET LENGTH`, a line each.
 */
import fs from 'node:fs';
import path from 'node:path';
import { Verifier } from '../maintenance/verifier';
import { VerifyLedger } from '../maintenance/verify-ledger';
import { TestRepository } from './test-repository';

export const verifyPeriodMs = 30 * 24 * 60 * 60 * 1000;

/** The ledger of a repository below `folder`. */
export function ledgerBelow(folder: string, { repository }: TestRepository): VerifyLedger {
  const { packs } = repository.index;
  return VerifyLedger.open(path.join(folder, 'ledger'), repository.id, (id) => packs.numberOf(id) !== undefined);
}

export const readsFile = (folder: string) => path.join(folder, 'reads');

async function run(folder: string, killAt: number): Promise<void> {
  const test = await TestRepository.open(folder);
  let steps = 0;
  const step = () => {
    if (++steps === killAt) process.kill(process.pid, 'SIGKILL');
  };
  const { store } = test.repository;
  const read = store.read.bind(store);
  store.read = async (name, offset, target) => {
    if (!name.endsWith('.pack')) return read(name, offset, target);
    step();
    const length = await read(name, offset, target);
    fs.appendFileSync(readsFile(folder), `${name} ${offset} ${length}\n`);
    return length;
  };
  const ledger = ledgerBelow(folder, test);
  const note = ledger.note.bind(ledger);
  ledger.note = (id, at) => {
    step();
    note(id, at);
    step();
  };
  await new Verifier(test.repository, new AbortController().signal, { ledger, periodMs: verifyPeriodMs }).run(undefined);
  ledger.close();
  await test.close();
}

if (require.main === module) void run(process.argv[2] as string, Number(process.argv[3]));
