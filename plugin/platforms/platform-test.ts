import { X509Certificate } from 'node:crypto';
import { toTidemarkError } from '../../common/errors/common-errors';
import type { Engine } from '../engine/engine';
import { compareVersions } from '../engine/mapping';
import type { Version } from '../engine/mapping';
import { probePermissions } from './permission-probe';
import type { Finding } from './permission-probe';

const dayMs = 86_400_000;
const warnDays = 30;

/** From here on finished backups and transfers can be read for a while; before, they vanished at once. */
export const oldestEngine = { major: 4, minor: 4, build: 7 } as const;

export function isTooOld(version: Version & { readonly build: number }): boolean {
  return compareVersions(version, oldestEngine) < 0 || (compareVersions(version, oldestEngine) === 0 && version.build < oldestEngine.build);
}

/** Connection, version, permits, hosts and storage of an engine. Never throws: what goes wrong is a finding. */
export async function testEngine(engine: Engine, signal: AbortSignal): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  const check = async (name: string, work: () => Promise<readonly Finding[]>): Promise<boolean> => {
    try {
      findings.push(...(await work()));
      return true;
    } catch (thrown) {
      const error = toTidemarkError(thrown, `checking ${name}`);
      findings.push({ check: name, passed: false, message: error.message, advice: adviceFor(error.code) });
      return false;
    }
  };
  const reached = await check('login', async () => {
    await engine.login(signal);
    return [passed('login', 'The certificate is the pinned one, and user and password are accepted.')];
  });
  if (!reached) return findings;
  await check('version', async () => {
    const info = await engine.access.info({ signal });
    findings.push(
      isTooOld(info.version)
        ? {
            check: 'version',
            passed: false,
            message: `The engine has version ${info.fullVersion}.`,
            advice: `Upgrade it to ${oldestEngine.major}.${oldestEngine.minor}.${oldestEngine.build} or newer.`,
          }
        : passed('version', `The engine has version ${info.fullVersion}.`),
    );
    return probePermissions(info.userId === undefined ? undefined : await engine.access.grantedRoles(info.userId, { signal }));
  });
  await check('ca-certificate', async () => Promise.resolve([certificateAge(engine.imageioCaPem, Date.now())]));
  await check('clusters', async () => {
    const old = (await engine.clusters.list({ signal })).filter(
      (cluster) => cluster.version && compareVersions(cluster.version, { major: 4, minor: 5 }) < 0,
    );
    return old.length === 0
      ? [passed('clusters', 'All clusters know incremental backups.')]
      : [
          {
            check: 'clusters',
            passed: false,
            message: `Clusters with a compatibility level below 4.5: ${names(old)}. Their VMs are always read fully.`,
            advice: 'Raise the compatibility level of these clusters and their data centre.',
          },
        ];
  });
  await check('hosts', async () => {
    const hosts = await engine.hosts.list({ signal });
    const up = hosts.filter((host) => host.status === 'up');
    return up.length > 0
      ? [passed('hosts', `${up.length} of ${hosts.length} hosts are up.`)]
      : [
          {
            check: 'hosts',
            passed: false,
            message: hosts.length === 0 ? 'The engine shows no host.' : `None of ${hosts.length} hosts is up.`,
            advice: 'Disks are read through a host that is up: activate one, or give our user a role that sees the hosts.',
          },
        ];
  });
  await check('storage-domains', async () => {
    const away: { name: string }[] = [];
    let seen = 0;
    for (const center of await engine.dataCenters.list({ signal })) {
      for (const domain of await engine.storageDomains.listOfDataCenter(center.id, { signal })) {
        if (domain.type !== 'data') continue;
        seen += 1;
        if (domain.status !== 'active') away.push({ name: `${domain.name} (${domain.status ?? 'no status'})` });
      }
    }
    return away.length === 0
      ? [passed('storage-domains', `All ${seen} data domains are active.`)]
      : [
          {
            check: 'storage-domains',
            passed: false,
            message: `Not active: ${names(away)}.`,
            advice: 'VMs with disks there cannot be backed up or restored until they are active.',
          },
        ];
  });
  return findings;
}

/** Warns a month ahead: with an expired CA neither the engine nor its hosts can be talked to. */
function certificateAge(pem: string, now: number): Finding {
  const { validTo } = new X509Certificate(pem);
  const leftDays = Math.floor((Date.parse(validTo) - now) / dayMs);
  return leftDays > warnDays
    ? passed('ca-certificate', `The engine's CA is valid until ${validTo}.`)
    : {
        check: 'ca-certificate',
        passed: false,
        message: leftDays < 0 ? `The engine's CA expired ${validTo}.` : `The engine's CA ends in ${leftDays} days (${validTo}).`,
        advice: 'Renew it with engine-setup, then compare the new fingerprint and connect the engine again.',
      };
}

function passed(check: string, message: string): Finding {
  return { check, passed: true, message, advice: '' };
}

function names(things: readonly { readonly name: string }[]): string {
  const shown = things.slice(0, 10).map((thing) => thing.name);
  return things.length > shown.length ? `${shown.join(', ')} and ${things.length - shown.length} more` : shown.join(', ');
}

function adviceFor(code: string): string {
  switch (code) {
    case 'ENGINE_LOGIN_REFUSED':
      return 'Connect the engine again with the right user and password.';
    case 'ENGINE_CERTIFICATE_CHANGED':
      return 'Compare both fingerprints on the engine; if the new one is right, connect the engine again with it.';
    case 'ENGINE_PERMISSION_MISSING':
      return 'Give our user a role that may read this, e.g. ReadOnlyAdmin beside its own.';
    default:
      return 'Check that the engine runs and can be reached from the plug-in.';
  }
}
