/** Workers as the shapes of the REST API. Pure. */
import type { z } from 'zod';
import { timestampFromWire } from '../../common/rpc/bytes';
import type { WireTimestamp } from '../../common/rpc/bytes';
import { failureError } from '../../common/rpc/failure-message';
import type { SelfTest__Output } from '../../proto/gen/tidemark/common/v1/SelfTest';
import { storedFailure } from '../jobs/task-context';
import type { KnownImage, KnownOrphan, KnownWorker } from '../workers/fleet';
import { checkOf, verdictOf } from '../workers/self-test';
import { settingsOf } from '../workers/worker-settings';
import type { FleetPolicy, WorkerSettings } from '../workers/worker-settings';
import { WorkerState } from './schemas';
import type * as S from './schemas';

const iso = (time: WireTimestamp | null | undefined): string | null => timestampFromWire(time)?.toISOString() ?? null;
const orNull = (text: string): string | null => (text === '' ? null : text);
const dayMs = 86_400_000;

export function workerView({ pluginId, worker }: KnownWorker, now: Date): z.infer<typeof S.Worker> {
  const { workerId, hostName, version, state, taskSlots, runningTasks, problem, settings } = worker;
  const expires = timestampFromWire(worker.certificateExpiresAt);
  return {
    id: workerId,
    pluginId,
    name: worker.name || hostName,
    hostName,
    version,
    platformId: orNull(worker.platformId),
    clusterId: orNull(worker.clusterId),
    clusterName: orNull(worker.clusterName),
    vmId: orNull(worker.vmId),
    hostId: orNull(worker.hostId),
    state: WorkerState.options.find((known) => known === state) ?? 'unknown',
    taskSlots,
    runningTasks,
    residentMemoryBytes: Number(worker.residentMemoryBytes),
    lastSeenAt: iso(worker.lastSeenAt),
    imageVersion: orNull(worker.imageVersion),
    outdated: worker.outdated,
    addresses: worker.addresses,
    selfTest: worker.selfTest ? selfTestView(worker.selfTest) : null,
    problem: problem ? storedFailure(failureError(problem)) : null,
    settings: settings ? settingsView(settingsOf(settings)) : null,
    operationId: orNull(worker.operationId),
    createdAt: iso(worker.createdAt),
    certificateExpiresAt: expires?.toISOString() ?? null,
    certificateDaysLeft: expires ? Math.floor((expires.getTime() - now.getTime()) / dayMs) : null,
  };
}

function selfTestView(test: SelfTest__Output): z.infer<typeof S.SelfTest> {
  return {
    testedAt: iso(test.testedAt),
    verdict: verdictOf(test.verdict),
    cells: test.cells.map(({ check, target, targetName, verdict, detail, advice, code, latency, bytesPerSecond, localAddress }) => ({
      check: checkOf(check),
      target,
      targetName,
      verdict: verdictOf(verdict),
      detail,
      advice,
      code,
      latencyMs: latency ? Number(latency.seconds) * 1000 + latency.nanos / 1_000_000 : null,
      bytesPerSecond: Number(bytesPerSecond) || null,
      localAddress,
    })),
  };
}

export function settingsView(settings: WorkerSettings): z.infer<typeof S.WorkerSettings> {
  const { nics, dnsServers, dnsSearch, ntpServers, hostIds, avoidedHostTags, ...rest } = settings;
  return {
    ...rest,
    nics: nics.map((nic) => ({ ...nic, ipv4: { ...nic.ipv4 }, ipv6: { ...nic.ipv6 }, routes: nic.routes.map((route) => ({ ...route })) })),
    dnsServers: [...dnsServers],
    dnsSearch: [...dnsSearch],
    ntpServers: [...ntpServers],
    hostIds: [...hostIds],
    avoidedHostTags: [...avoidedHostTags],
  };
}

export function orphanView({ pluginId, orphan }: KnownOrphan): z.infer<typeof S.OrphanWorker> {
  const { platformId, vmId, name, description, status, clusterId, madeBy } = orphan;
  return { pluginId, platformId, vmId, name, description, status, clusterId, madeBy: orNull(madeBy), createdAt: iso(orphan.createdAt) };
}

export function imageView({ pluginId, image }: KnownImage): z.infer<typeof S.WorkerImage> {
  const { version, sha256, path } = image;
  return { pluginId, version, sha256, fileBytes: Number(image.fileBytes), diskBytes: Number(image.diskBytes), path };
}

export function policyView(platformId: string, policy: FleetPolicy): z.infer<typeof S.FleetPolicy> {
  return { platformId, ...policy, automaticSettings: settingsView(policy.automaticSettings) };
}
