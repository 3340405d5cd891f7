/**
 * The program of a worker VM: config drive → network → time → worker. In the VM it is started once by init, which powers the VM off when it ends;
 * as a process (`--as-process`) it reads a config drive's tree and leaves network and clock as they are.
 */
import fs from 'node:fs';
import { parseArgs } from 'node:util';
import type { ApplianceSeed } from '../../common/appliance/seed';
import { toTidemarkError } from '../../common/errors/common-errors';
import { runAsProgram } from '../../common/lifecycle/role-main';
import type { Logger } from '../../common/log/logger';
import { ApplianceErrors } from '../errors/appliance-errors';
import { bootCost } from './boot-cost';
import { readConfigDrive, readConfigDriveFolder } from './config-drive';
import type { ConfigDrive } from './config-drive';
import { consoleLogger } from './console';
import { Network, findNics, ownAddresses } from './network';
import { networkSettings } from './network-settings';
import type { WorkerEnd } from './run-worker';
import { TimeKeeper } from './time';
import { seedFromUserData } from './user-data';
import { workerSettings } from './worker-settings';

const usage = `usage: node dist/worker/appliance/main.js [--config-drive DIR] [--data-folder DIR] [--image-version V] [--as-process]

The program of a worker VM. Ends with 0 stopped, 1 failed, 2 usage, 3 no usable config drive, 4 the plug-in refuses this worker.

  --config-drive DIR  the tree of a config drive, instead of the CD with the label config-2
  --data-folder DIR   identity and state (default /run/tidemark/worker, in memory)
  --image-version V   instead of the version in /etc/tidemark-image.json
  --as-process        leave network, host name and clock alone
`;

const exitCodes: Readonly<Record<WorkerEnd, number>> = { stopped: 0, failed: 1, refused: 4 };
const noSeed = 3;
const addressPatienceMs = 30_000;

interface Options {
  readonly configDrive: string | undefined;
  readonly dataFolder: string;
  readonly imageVersion: string;
  readonly asProcess: boolean;
}

/** Resolves with the exit code. */
export async function main(argv: readonly string[]): Promise<number> {
  let options: Options;
  try {
    options = readOptions(argv);
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n${usage}`);
    return 2;
  }
  const logger = consoleLogger('info');
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      logger.info(`appliance: stopping (${signal})`);
      stop.abort();
    });
  }
  process.on('unhandledRejection', (error) => logger.error('appliance: unhandled rejection', { error }));
  logger.info(`appliance: started, image ${options.imageVersion || 'none'}`);
  let drive: ConfigDrive;
  let seed: ApplianceSeed;
  try {
    if (!options.asProcess) checkReadOnlyRoot(logger);
    drive = options.configDrive === undefined ? await readConfigDrive() : readConfigDriveFolder(options.configDrive);
    seed = seedFromUserData(drive.userData);
  } catch (thrown) {
    const error = toTidemarkError(thrown, 'reading the config drive');
    logger.error(`appliance: ${error.message} [${error.code}]`);
    return noSeed;
  }
  logger.info(`appliance: settings read for worker ${seed.workerId}`);
  const machine = options.asProcess ? undefined : new Machine(seed, drive, logger);
  try {
    await machine?.connect(stop.signal);
    if (stop.signal.aborted) return exitCodes.stopped;
    const clock = machine?.setClock();
    // The larger part of the program: read while the time server is waited for.
    const { runWorker } = await import('./run-worker.js');
    await clock;
    if (stop.signal.aborted) return exitCodes.stopped;
    const { dataFolder, imageVersion } = options;
    fs.mkdirSync(dataFolder, { recursive: true, mode: 0o700 });
    const config = workerSettings(seed, { dataFolder, imageVersion, addresses: ownAddresses() });
    if (!options.asProcess) tellBootCost(logger);
    const end = await runWorker(config, consoleLogger('warn'), logger, stop.signal);
    logger.info(`appliance: the worker ended (${end})`);
    return exitCodes[end];
  } finally {
    machine?.stop();
  }
}

/** For whoever asks why a start takes so long, and for the test that counts it. */
function tellBootCost(logger: Logger): void {
  const cost = bootCost();
  if (cost)
    logger.info(
      `appliance: ready to dial ${cost.seconds.toFixed(1)} s after the kernel, of which CPUs computed ${cost.computedSeconds.toFixed(1)} s`,
    );
}

function readOptions(argv: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      'config-drive': { type: 'string' },
      'data-folder': { type: 'string', default: '/run/tidemark/worker' },
      'image-version': { type: 'string' },
      'as-process': { type: 'boolean', default: false },
    },
  });
  return {
    configDrive: values['config-drive'],
    dataFolder: values['data-folder'],
    imageVersion: values['image-version'] ?? imageVersion(),
    asProcess: values['as-process'],
  };
}

/** Empty outside of the image. */
function imageVersion(): string {
  try {
    return (JSON.parse(fs.readFileSync('/etc/tidemark-image.json', 'utf8')) as { version: string }).version;
  } catch {
    return '';
  }
}

/** Throws ROOT_WRITABLE. Whoever is inside must not be able to stay. */
function checkReadOnlyRoot(logger: Logger): void {
  const probe = '/etc/tidemark-write-probe';
  try {
    fs.writeFileSync(probe, '');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EROFS') throw error;
    logger.info('appliance: the root file system is read-only');
    return;
  }
  fs.rmSync(probe);
  throw ApplianceErrors.ROOT_WRITABLE({});
}

/** Host name, network, clock. What fails is told and gone past: the self-test shows what is missing. */
class Machine {
  readonly #network: Network;
  #time: TimeKeeper | undefined;

  constructor(
    private readonly seed: ApplianceSeed,
    drive: ConfigDrive,
    private readonly logger: Logger,
  ) {
    this.#network = new Network(networkSettings(seed, drive.networkData, findNics()), logger);
  }

  async connect(stop: AbortSignal): Promise<void> {
    fs.writeFileSync('/proc/sys/kernel/hostname', this.seed.hostName);
    await this.#network.start();
    await this.#network.waitForAddresses(addressPatienceMs, stop);
  }

  async setClock(): Promise<void> {
    const { ntpServers } = this.seed;
    this.#time = new TimeKeeper(ntpServers.length > 0 ? ntpServers : this.#network.learned.ntpServers, this.logger);
    await this.#time.start();
  }

  stop(): void {
    this.#time?.stop();
    this.#network.stop();
  }
}

if (require.main === module) runAsProgram(main);
