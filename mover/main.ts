/**
 * `tidemark mover`: keeps repositories. The only file of this process that looks at arguments, environment and signals.
 */
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { loadConfig } from '../common/config/load-config';
import { toTidemarkError } from '../common/errors/common-errors';
import { processInfo } from '../common/lifecycle/process-info';
import { runRole } from '../common/lifecycle/run-role';
import { composeMover, moverCapabilities, moverLogger, moverProtocols } from './composition';
import { moverConfigSchema } from './config';
import { obtainIdentity } from './host/enrolment';

const usage = `usage: tidemark mover [--config FILE] [--end-with-parent]

Runs a data mover in the foreground. Configuration: a JSON file and TIDEMARK_… variables, for example
  TIDEMARK_DATA_FOLDER=/var/lib/tidemark-mover
  TIDEMARK_HOST__ENDPOINT=backup.example.com:8444
  TIDEMARK_HOST__ENROLMENT_ENDPOINT=backup.example.com:8449
  TIDEMARK_HOST__ENROLMENT_TOKEN_FILE=/etc/tidemark/mover-token   (until enrolled; made by "tidemark mover enrol")
`;

/** Runs until told to stop; resolves with the exit code: 0 stopped, 1 failed, 2 usage. `argv` without program and role. */
export async function main(argv: readonly string[]): Promise<number> {
  let options: { config?: string; 'end-with-parent'?: boolean; help?: boolean };
  try {
    options = parseArgs({
      args: [...argv],
      options: { config: { type: 'string' }, 'end-with-parent': { type: 'boolean' }, help: { type: 'boolean' } },
    }).values;
  } catch (error) {
    process.stderr.write(`tidemark mover: ${(error as Error).message}\n${usage}`);
    return 2;
  }
  if (options.help === true) {
    process.stdout.write(usage);
    return 0;
  }
  keepYoungSpaceSmall();
  const endWithParent = options['end-with-parent'] === true;
  // A supervised child must not outlive its server while it still waits for it to answer.
  const leave = () => process.exit(0);
  if (endWithParent) process.stdin.once('end', leave).resume();
  try {
    const { TIDEMARK_HOST__ENROLMENT_TOKEN_FILE: enrolmentTokenFile, ...environment } = relevant(process.env);
    const config = loadConfig(moverConfigSchema, {
      file: options.config,
      environment,
      // Not read by the loader: the file may be gone once the mover is enrolled.
      overrides: enrolmentTokenFile === undefined ? {} : { host: { enrolmentTokenFile } },
    });
    const logger = moverLogger(config);
    const info = processInfo(config.dataFolder, moverProtocols, moverCapabilities);
    const identity = await obtainIdentity(config, info, logger);
    const mover = composeMover(config, logger, info, identity);
    process.stdin.off('end', leave);
    return await runRole({
      role: 'mover',
      logger,
      services: mover.services,
      endWithParent,
      ready: () => ({ moverId: identity.self.id, instanceId: info.instanceId, ...mover.endpoints() }),
    });
  } catch (thrown) {
    const error = toTidemarkError(thrown, 'starting the mover');
    process.stderr.write(`tidemark mover: ${error.code}: ${error.message}\n`);
    return 1;
  }
}

/**
 * Every 16 KiB that arrive over TLS are a buffer outside the heap. With V8's usual young space they pile up until a full mark-compact, 50 of them
 * for a GiB; with a small one the cheap collector frees them first. Measured with Node 24.21 on 907 MB received: CPU 2.9 s down to 1.5 s, peak
 * memory 210 MB down to 134 MB. An unknown flag would only be reported on stderr.
 */
function keepYoungSpaceSmall(): void {
  setFlagsFromString('--scavenger-max-new-space-capacity-mb=2');
}

/** Variables of other roles on the same machine must not count as mistakes of this one. */
function relevant(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const names = /^TIDEMARK_(DATA_FOLDER|LISTEN__|ADDRESSES|ADVERTISE__|HOST__|LIMITS__|LOCK_|LOG_)/;
  return Object.fromEntries(Object.entries(environment).filter(([name]) => names.test(name)));
}

if (require.main === module) {
  void main(process.argv.slice(2)).then((code) => {
    process.exitCode = code;
    // Everything that matters is stopped by now; a socket that lingers must not keep the process.
    setTimeout(() => process.exit(code), 2_000).unref();
  });
}
