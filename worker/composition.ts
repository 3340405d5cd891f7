import 'reflect-metadata';
import { container, instanceCachingFactory } from 'tsyringe';
import type { DependencyContainer, InjectionToken } from 'tsyringe';
import type { Service } from '../common/lifecycle/lifecycle';
import { createLogger } from '../common/log/logger';
import type { Logger } from '../common/log/logger';
import { RpcClient } from '../common/rpc/call';
import { CertificateKeeper } from '../common/tls/certificate-keeper';
import { mutualClientCredentials } from '../common/tls/credentials';
import { diagnoseCertificates } from '../common/tls/diagnose';
import type { ProcessIdentity } from '../common/tls/identity';
import { trustStateOf } from '../common/tls/trust-state';
import { DATA_MOVER_ALPN } from '../proto/data-mover/frame-types';
import { loadService } from '../proto/loader';
import type { ProcessInfo } from '../proto/gen/tidemark/common/v1/ProcessInfo';
import type { WorkerServiceDefinition } from '../proto/gen/tidemark/worker/v1/WorkerService';
import { DeviceTree } from './attached-disks/device-tree';
import type { WorkerConfig } from './config';
import { LanePool } from './pipeline/lane-pool';
import { LogBuffer, loggerInto } from './plugin/log-lines';
import { describeMachine, takesAttachedDisks } from './plugin/own-machine';
import { PluginCertificates } from './plugin/plugin-certificates';
import { WorkerSession } from './plugin/worker-session';
import { systemNames } from './self-test/names';
import { SelfTestRunner } from './self-test/self-test-runner';
import { backupDisk } from './tasks/backup-disk';
import { restoreDisk } from './tasks/restore-disk';
import { addressFromWire, taskFromWire } from './tasks/task-from-wire';
import { TaskRegistry } from './tasks/task-registry';

const tokens = {
  logger: Symbol('logger') as InjectionToken<Logger>,
  client: Symbol('client') as InjectionToken<RpcClient<WorkerServiceDefinition>>,
  pool: Symbol('pool') as InjectionToken<LanePool>,
  tasks: Symbol('tasks') as InjectionToken<TaskRegistry>,
  session: Symbol('session') as InjectionToken<WorkerSession>,
  selfTests: Symbol('self-tests') as InjectionToken<SelfTestRunner>,
  issuer: Symbol('issuer') as InjectionToken<PluginCertificates>,
  keeper: Symbol('keeper') as InjectionToken<CertificateKeeper>,
};

export const workerProtocols: readonly string[] = ['tidemark.worker.v1', DATA_MOVER_ALPN];
/** Of every worker; some have more, see `furtherCapabilities`. */
export const workerCapabilities: readonly string[] = [
  'disk-backup',
  'disk-restore',
  'file-restore',
  'self-test',
  'trust-update',
  'resume',
  'change-data-path',
];

function furtherCapabilities(config: WorkerConfig): string[] {
  return [...(takesAttachedDisks(config) ? ['disk-attachment'] : []), ...(config.imageVersion === '' ? [] : ['log-lines'])];
}

/** Everything that a worker runs, wired. */
export interface WorkerProcess {
  readonly logger: Logger;
  readonly services: readonly Service[];
}

export function workerLogger(config: WorkerConfig): Logger {
  return createLogger({ process: 'worker', level: config.logLevel, ...(config.logFile === undefined ? {} : { file: config.logFile }) });
}

/**
 * The composition root: the only place that knows who needs whom. `onRefused` is told that the plug-in will not have this worker any more;
 * without it the worker goes on asking.
 */
export function composeWorker(
  config: WorkerConfig,
  given: Logger,
  info: ProcessInfo,
  identity: ProcessIdentity,
  onRefused?: (code: string) => void,
): WorkerProcess {
  // A worker VM keeps no log of its own.
  const logLines = config.imageVersion === '' ? undefined : new LogBuffer();
  const logger = logLines ? loggerInto(logLines, given) : given;
  const scope = container.createChildContainer();
  const once = <T>(token: InjectionToken<T>, make: (c: DependencyContainer) => T) =>
    scope.register(token, { useFactory: instanceCachingFactory(make) });
  once(tokens.logger, () => logger);
  once(tokens.client, () => {
    const { service } = loadService('tidemark/worker/v1/worker_service.proto', 'tidemark.worker.v1.WorkerService');
    return new RpcClient<WorkerServiceDefinition>(service, config.plugin.endpoint, mutualClientCredentials(identity, 'plugin'));
  });
  once(tokens.pool, () => new LanePool(config.threads === 0 ? undefined : config.threads));
  once(tokens.tasks, (c) => {
    const pool = c.resolve(tokens.pool);
    return new TaskRegistry(
      {
        read: (start) => taskFromWire(start, identity.material),
        readDataPath: (dataPath) => addressFromWire(dataPath, identity.material),
        devices: new DeviceTree(config.devices.sysFolder, config.devices.deviceFolder),
        run: (task, context) => (task.kind === 'backup' ? backupDisk(task, pool, context) : restoreDisk(task, pool, context)),
      },
      config.taskSlots,
      c.resolve(tokens.logger),
    );
  });
  once(
    tokens.selfTests,
    (c) =>
      new SelfTestRunner(
        {
          pluginEndpoint: config.plugin.endpoint,
          dataFolder: config.dataFolder,
          taskSlots: config.taskSlots,
          identity: () => identity.material,
          names: systemNames,
          now: Date.now,
        },
        c.resolve(tokens.logger),
      ),
  );
  once(tokens.issuer, (c) => new PluginCertificates(identity, c.resolve(tokens.client), c.resolve(tokens.logger)));
  once(tokens.keeper, (c) => new CertificateKeeper(identity, c.resolve(tokens.issuer), c.resolve(tokens.logger)));
  once(tokens.session, (c) => {
    const { taskSlots, platformId, clusterId, imageVersion } = config;
    const process = { ...info, capabilities: [...(info.capabilities ?? []), ...furtherCapabilities(config)] };
    return new WorkerSession(
      c.resolve(tokens.client),
      c.resolve(tokens.tasks),
      {
        hello: () => ({ process, taskSlots, platformId, clusterId, imageVersion, ...describeMachine(config) }),
        trust: () => trustStateOf(identity),
        diagnose: () => diagnoseCertificates(config.plugin.endpoint, identity),
        updateTrust: (update) => c.resolve(tokens.issuer).take(update, c.resolve(tokens.keeper)),
        selfTests: c.resolve(tokens.selfTests),
        logLines,
        refused: (code) => onRefused?.(code),
      },
      c.resolve(tokens.logger),
    );
  });
  const pool = scope.resolve(tokens.pool);
  const session = scope.resolve(tokens.session);
  const keeper = scope.resolve(tokens.keeper);
  const selfTests = scope.resolve(tokens.selfTests);
  identity.onReplaced(() => {
    pool.useIdentity(identity.material);
    session.heartbeat();
  });
  const lanes: Service = { name: 'lane threads', start: async () => pool.start(), stop: () => pool.stop() };
  const tests: Service = { name: 'self-tests', start: async () => undefined, stop: async () => selfTests.stop() };
  return { logger, services: [lanes, tests, keeper, session] };
}
