import type { Server } from '@grpc/grpc-js';
import { CommonErrors } from '../../common/errors/common-errors';
import { Secret } from '../../common/log/redact';
import { timestampToWire } from '../../common/rpc/bytes';
import { failureMessage } from '../../common/rpc/failure-message';
import { serve } from '../../common/rpc/serve';
import type { ServeOptions } from '../../common/rpc/serve';
import { loadService } from '../../proto/loader';
import type { ObservedCertificate as WireCertificate } from '../../proto/gen/tidemark/plugin/v1/ObservedCertificate';
import type { Platform } from '../../proto/gen/tidemark/plugin/v1/Platform';
import type { PlatformServiceDefinition } from '../../proto/gen/tidemark/plugin/v1/PlatformService';
import type { PutPlatformRequest__Output } from '../../proto/gen/tidemark/plugin/v1/PutPlatformRequest';
import { normalFingerprint } from '../engine/engine-trust';
import type { ObservedCertificate, ObservedCertificates, ObservedKind } from '../platforms/observed-certificates';
import type { PlatformView, Platforms, PutPlatform } from '../platforms/platforms';

const definition = loadService('tidemark/plugin/v1/platform_service.proto', 'tidemark.plugin.v1.PlatformService').service;

/** Connected engines, for the host. */
export function servePlatforms(server: Server, platforms: Platforms, observed: ObservedCertificates, options: ServeOptions): void {
  serve<PlatformServiceDefinition>(
    server,
    definition,
    {
      InspectPlatform: {
        roles: ['host'],
        unary: async (request) => {
          const found = await platforms.inspect(request.url);
          return {
            url: found.url,
            caFingerprint: found.fingerprint,
            caSubject: found.subject,
            caExpiresAt: timestampToWire(found.expiresAt),
          };
        },
      },
      PutPlatform: {
        roles: ['host'],
        unary: async (request, { signal }) => ({ platform: platformToWire(await platforms.put(putFromWire(request), signal)) }),
      },
      ListPlatforms: { roles: ['host'], unary: async () => ({ platforms: platforms.list().map(platformToWire) }) },
      RemovePlatform: {
        roles: ['host'],
        unary: async (request) => {
          await platforms.remove(request.platformId);
          return {};
        },
      },
      TestPlatform: {
        roles: ['host'],
        unary: async (request, { signal }) => ({
          findings: (await platforms.test(request.platformId, signal)).map((finding) => ({ ...finding })),
        }),
      },
      ListObservedCertificates: {
        roles: ['host'],
        unary: async ({ refresh }) => ({ certificates: (await observed.list(refresh)).map(certificateToWire) }),
      },
    },
    options,
  );
}

function putFromWire(request: PutPlatformRequest__Output): PutPlatform {
  const invalid = (field: string, problem: string) => CommonErrors.ARGUMENT_INVALID({ field, problem });
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(request.platformId)) throw invalid('platform_id', 'must be a UUID');
  if (request.name.trim() === '' || request.name.length > 100) throw invalid('name', 'must have 1 to 100 characters');
  if (!request.username.includes('@')) throw invalid('username', 'must be user@profile, e.g. admin@internal');
  if (normalFingerprint(request.caFingerprint).length !== 64)
    throw invalid('ca_fingerprint', 'must be a SHA-256 fingerprint as InspectPlatform shows it');
  return {
    platformId: request.platformId,
    name: request.name.trim(),
    url: request.url,
    username: request.username,
    password: new Secret(request.password),
    caFingerprint: request.caFingerprint,
  };
}

const kinds = {
  'engine-ca': 'OBSERVED_CERTIFICATE_KIND_ENGINE_CA',
  'engine-web': 'OBSERVED_CERTIFICATE_KIND_ENGINE_WEB',
  'engine-proxy': 'OBSERVED_CERTIFICATE_KIND_ENGINE_PROXY',
  host: 'OBSERVED_CERTIFICATE_KIND_HOST',
} as const satisfies Record<ObservedKind, string>;

function certificateToWire({ platformId, kind, name, endpoint, certificate, observedAt, failure }: ObservedCertificate): WireCertificate {
  return {
    platformId,
    kind: kinds[kind],
    name,
    endpoint,
    subject: certificate?.subject.replaceAll('\n', ', ') ?? '',
    issuer: certificate?.issuer.replaceAll('\n', ', ') ?? '',
    fingerprint: certificate?.fingerprint256 ?? '',
    validFrom: certificate ? timestampToWire(new Date(certificate.validFrom)) : null,
    expiresAt: certificate ? timestampToWire(new Date(certificate.validTo)) : null,
    observedAt: observedAt ? timestampToWire(observedAt) : null,
    failure: failure ? failureMessage(failure) : null,
  };
}

function platformToWire(platform: PlatformView): Platform {
  return {
    platformId: platform.platformId,
    name: platform.name,
    url: platform.url,
    username: platform.username,
    caFingerprint: platform.caFingerprint,
    engineVersion: platform.engineVersion,
    unavailable: platform.unavailable ? failureMessage(platform.unavailable) : null,
    lastContactAt: platform.lastContactAt ? timestampToWire(platform.lastContactAt) : null,
  };
}
