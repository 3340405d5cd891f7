/**
 * `npm run demo`: the main job end to end, on real parts. A live VM with three disks is backed up in full, changes, is backed up
 * incrementally, gets a fourth disk, is backed up in mixed mode, and is restored as a new VM; every disk of every step is compared with what
 * qemu-img itself read at the engine's point in time. Then a worker is killed in the middle of a run, and the engine is shown to be clean.
 * Exit code 0 only if every comparison held.
 */
import { parseArgs } from 'node:util';
import { runDemo } from './demo';

const usage = `usage: npm run demo -- [--json] [--keep] [--seed N]

  --json     print the table as one JSON object on standard output
  --keep     leave everything running, and say how to go on by hand
  --seed N   vary the data and the write pattern (default 1)`;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      json: { type: 'boolean', default: false },
      keep: { type: 'boolean', default: false },
      seed: { type: 'string', default: '1' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(usage);
    return 0;
  }
  const seed = Number(values.seed);
  if (!Number.isSafeInteger(seed) || seed < 0) {
    console.error('--seed must be a whole number');
    return 2;
  }
  return runDemo({ json: values.json, keep: values.keep, seed });
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    console.error(error instanceof Error ? error.message : error);
    process.exit(1);
  },
);
