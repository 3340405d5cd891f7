import { renameSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { startLab, type Lab } from './lab';
import { defaultPlan, emptyPlan, readSeedPlan } from './seed/seed-plan';

/** `npm run lab`: starts the lab alone and says how to reach it. Ends cleanly on SIGTERM and SIGINT. */
const USAGE = `usage: lab [--data-dir DIR] [--port N] [--control-port N] [--clock-factor N]
           [--seed-file FILE | --empty] [--pretend VMS,CLUSTERS,HOSTS] [--ready-file FILE]
           [--worker-vms none|process|guest] [--appliance PROGRAM] [--renew-ca] [--verbose]`;

const REPEAT_AFTER_MS = 10_000;
const MOST_LINES = 1_000;

/** dist/lab/main.js lies two folders below the root. */
const root = resolve(__dirname, '../..');

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      'data-dir': { type: 'string', default: join(root, '.cache', 'lab') },
      port: { type: 'string', default: '0' },
      'control-port': { type: 'string', default: '0' },
      'clock-factor': { type: 'string', default: '1' },
      'seed-file': { type: 'string' },
      empty: { type: 'boolean', default: false },
      pretend: { type: 'string' },
      'ready-file': { type: 'string' },
      'worker-vms': { type: 'string', default: 'none' },
      appliance: { type: 'string', default: join(root, 'dist', 'worker', 'appliance', 'main.js') },
      'renew-ca': { type: 'boolean', default: false },
      verbose: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return;
  }
  const basePlan = values['seed-file'] !== undefined ? readSeedPlan(values['seed-file']) : values.empty ? emptyPlan : defaultPlan;
  const [vms, clusters, hosts] = (values.pretend ?? '').split(',').map(Number);
  const pretend = values.pretend === undefined ? basePlan.pretend : { vms: vms ?? 0, clusters: clusters ?? 0, hosts: hosts ?? 0 };
  const lab = await startLab({
    dataDir: resolve(values['data-dir']),
    plan: { ...basePlan, ...(pretend ? { pretend } : {}) },
    port: Number(values.port),
    controlPort: Number(values['control-port']),
    renewCa: values['renew-ca'],
    settings: { clockFactor: Number(values['clock-factor']), workerVms: workerVmsOf(values['worker-vms']) },
    appliance: resolve(values.appliance),
    pythonVenvDir: join(root, '.venv'),
    guestCacheDir: join(root, '.cache', 'guest'),
    log: {
      info: (text, fields) => {
        if (values.verbose) {
          console.error(`${new Date().toISOString()} ${text} ${fields ? JSON.stringify(fields) : ''}`);
        }
      },
      error: calmly((text, error) => {
        console.error(`${new Date().toISOString()} ${text}:`, values.verbose ? error : String(error));
      }),
    },
  });
  const { access } = lab;
  writeFileSync(access.caFile, lab.caPem);
  writeFileSync(access.passwordFile, lab.password, { mode: 0o600 });
  stopOnSignal(lab);
  if (values['ready-file'] !== undefined) {
    // Renamed into place, so that whoever waits for it never reads half of it.
    const aside = `${values['ready-file']}.new`;
    writeFileSync(aside, JSON.stringify({ ...access, password: lab.password, pid: process.pid }), { mode: 0o600 });
    renameSync(aside, values['ready-file']);
  }
  console.log(`The lab is up.

  engine     ${access.engineUrl}
  API        ${access.apiUrl}
  CA         ${access.caFile}
  user       ${access.user}
  password   in ${access.passwordFile}
  control    ${access.controlUrl}   (GET / lists what it can do)

Point any oVirt client at it, for example:

  curl --cacert ${access.caFile} -u "${access.user}:$(cat ${access.passwordFile})" -H 'Accept: application/json' ${access.apiUrl}/vms

Stop it with Ctrl-C; its VMs and state are kept in ${access.dataDir}.`);
}

function workerVmsOf(text: string): 'none' | 'process' | 'guest' {
  if (text !== 'none' && text !== 'process' && text !== 'guest') {
    throw new Error(`--worker-vms is none, process or guest, not ${text}`);
  }
  return text;
}

/** The engine retries some things for ever, several times a second with a fast clock: each line once in a while is enough. */
function calmly(log: (text: string, error: unknown) => void): (text: string, error: unknown) => void {
  const lastAt = new Map<string, number>();
  return (text, error) => {
    const now = Date.now();
    if (now - (lastAt.get(text) ?? 0) >= REPEAT_AFTER_MS) {
      lastAt.delete(text);
      lastAt.set(text, now);
      if (lastAt.size > MOST_LINES) {
        lastAt.delete(lastAt.keys().next().value ?? '');
      }
      log(text, error);
    }
  };
}

function stopOnSignal(lab: Lab): void {
  let stopping = false;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (stopping) {
        return;
      }
      stopping = true;
      lab.stop().then(
        () => process.exit(0),
        (error: unknown) => {
          console.error('the lab did not stop cleanly:', error);
          process.exit(1);
        },
      );
    });
  }
}

main().catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
