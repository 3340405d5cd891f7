/**
 * `npm run demo`: the main job end to end, on real parts. A live VM with three disks is backed up in full, changes, is backed up
 * incrementally, gets a fourth disk, is backed up in mixed mode, and is restored as a new VM; every disk of every step is compared with what
 * qemu-img itself read at the engine's point in time. Then a worker is killed in the middle of a run, and the engine is shown to be clean.
 * With `--real-workers` a worker VM does the reading and writing, with `--gateway` two gateways carry everything to a bucket. Exit code 0 only if every comparison held.
 */
import { parseArgs } from 'node:util';
import { runDemo } from './demo';

const usage = `usage: npm run demo -- [--json] [--keep] [--seed N] [--real-workers | --gateway]

  --json     print the table as one JSON object on standard output
  --keep     leave everything running, and say how to go on by hand
  --seed N   vary the data and the write pattern (default 1)
  --real-workers
             all data goes through a worker VM: the image is built (once), deployed by the plug-in and booted by the lab as a guest, with an
             emulated CPU; prints how long upload and boot took. Needs root
  --gateway  the repository is a bucket of a real S3 server, where no mover can run: two gateways carry the data, one is killed in the middle of a
             backup, and the points are read on another machine that has the bucket's key and the recovery key alone`;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      json: { type: 'boolean', default: false },
      keep: { type: 'boolean', default: false },
      'real-workers': { type: 'boolean', default: false },
      gateway: { type: 'boolean', default: false },
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
  if (values.gateway && values['real-workers']) {
    console.error('--gateway and --real-workers do not go together: the gateways are on this machine alone');
    return 2;
  }
  return runDemo({ json: values.json, keep: values.keep, seed, realWorkers: values['real-workers'], gateway: values.gateway });
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    console.error(error instanceof Error ? error.message : error);
    process.exit(1);
  },
);
