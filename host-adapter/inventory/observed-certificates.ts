import { toTidemarkError } from '../../common/errors/common-errors';
import { timestampFromWire } from '../../common/rpc/bytes';
import { failureError } from '../../common/rpc/failure-message';
import type { ObservedCertificateKind__Output } from '../../proto/gen/tidemark/plugin/v1/ObservedCertificateKind';
import type { ObservedCertificate } from '../identity/certificate-watch';
import type { PluginConnections } from '../registry/plugin-connections';
import type { Platforms } from './platforms';

const kinds: Partial<Record<ObservedCertificateKind__Output, ObservedCertificate['kind']>> = {
  OBSERVED_CERTIFICATE_KIND_ENGINE_CA: 'engine-ca',
  OBSERVED_CERTIFICATE_KIND_ENGINE_WEB: 'engine-web',
  OBSERVED_CERTIFICATE_KIND_ENGINE_PROXY: 'engine-proxy',
  OBSERVED_CERTIFICATE_KIND_HOST: 'engine-host',
};

/** What the plug-ins see of engines and hosts. A plug-in that cannot be asked is one entry with the reason. */
export async function observedCertificates(
  connections: PluginConnections,
  platforms: Pick<Platforms, 'list'>,
  refresh: boolean,
): Promise<ObservedCertificate[]> {
  const all: ObservedCertificate[] = [];
  const names = new Map((await platforms.list().catch(() => [])).map(({ row }) => [row.id, row.name]));
  for (const client of await connections.usable()) {
    try {
      const { certificates } = await client.platforms.call('ListObservedCertificates', { refresh }, { deadlineMs: 60_000 });
      for (const one of certificates) {
        const kind = kinds[one.kind];
        if (!kind) continue;
        all.push({
          kind,
          name: one.name,
          platform: names.get(one.platformId) ?? one.platformId,
          endpoint: one.endpoint,
          issuer: one.issuer,
          fingerprint: one.fingerprint.replaceAll(':', '').toLowerCase(),
          expiresAt: timestampFromWire(one.expiresAt),
          observedAt: timestampFromWire(one.observedAt),
          failure: one.failure ? failureError(one.failure) : undefined,
        });
      }
    } catch (thrown) {
      // A plug-in of the last version cannot look, another may be going down: what the others see is shown all the same.
      const failure = toTidemarkError(thrown, 'looking at certificates');
      const unknown = { endpoint: '', issuer: '', fingerprint: '', expiresAt: undefined, observedAt: undefined };
      all.push({ kind: 'engine-ca', name: `plug-in ${client.id}`, platform: '', ...unknown, failure });
    }
  }
  return all;
}
