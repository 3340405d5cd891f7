import fs from 'node:fs';
import path from 'node:path';
import type { ChannelCredentials } from '@grpc/grpc-js';
import type { EnrolmentApplication } from '../../proto/gen/tidemark/common/v1/EnrolmentApplication';
import type { IssuedCertificate__Output } from '../../proto/gen/tidemark/common/v1/IssuedCertificate';
import type { ProcessInfo } from '../../proto/gen/tidemark/common/v1/ProcessInfo';
import { CommonErrors } from '../errors/common-errors';
import { hasCode } from '../errors/tidemark-error';
import type { Logger } from '../log/logger';
import { pause } from '../rpc/call';
import type { Role } from '../rpc/peer';
import { enrol } from './enrolment';
import { ProcessIdentity } from './identity';

/** The enrolment part of a role's configuration. */
export interface EnrolmentSettings {
  /** host:port of the enrolment port. */
  readonly enrolmentEndpoint?: string | undefined;
  readonly enrolmentToken?: string | undefined;
  readonly enrolmentTokenFile?: string | undefined;
  /** How long a server that cannot be reached is waited for. */
  readonly enrolmentPatienceMs: number;
}

export interface ObtainIdentityOptions {
  readonly dataFolder: string;
  /** Name of the settings in the configuration, for messages: `host` or `plugin`. */
  readonly field: string;
  readonly settings: EnrolmentSettings;
  readonly server: Role;
  readonly process: ProcessInfo;
  readonly addresses: readonly string[];
  readonly logger: Logger;
  readonly signal?: AbortSignal | undefined;
  /** Makes the Enrol call of the right service. */
  apply(endpoint: string, credentials: ChannelCredentials, application: EnrolmentApplication): Promise<IssuedCertificate__Output | null>;
}

const firstPauseMs = 200;
const longestPauseMs = 5_000;

/**
 * The stored certificate, unless it is over and there is a token, else one for the one-time token. Throws CONFIGURATION_INVALID or
 * ENROLMENT_TOKEN_INVALID when there is neither, TRUST_FINGERPRINT_MISMATCH, and, after the patience, PEER_UNAVAILABLE, HOST_UNREACHABLE or DEADLINE_EXCEEDED.
 */
export async function obtainIdentity(options: ObtainIdentityOptions): Promise<ProcessIdentity> {
  const { settings, field, logger } = options;
  const folder = path.join(options.dataFolder, 'identity');
  const stored = ProcessIdentity.load(folder);
  const hasToken = settings.enrolmentToken !== undefined || settings.enrolmentTokenFile !== undefined;
  if (stored && !(hasToken && isOver(stored))) return stored;
  const endpoint = settings.enrolmentEndpoint;
  if (endpoint === undefined) {
    throw CommonErrors.CONFIGURATION_INVALID({ problems: `- ${field}.enrolmentEndpoint: is needed until this process is enrolled` });
  }
  const token = readToken(settings, field);
  const until = performance.now() + settings.enrolmentPatienceMs;
  for (let attempt = 0; ; attempt += 1) {
    try {
      const identity = await enrol({
        endpoint,
        token,
        server: options.server,
        process: options.process,
        addresses: options.addresses,
        identityFolder: folder,
        apply: (credentials, application) => options.apply(endpoint, credentials, application),
      });
      logger.info('enrolled', { endpoint, id: identity.self.id });
      return identity;
    } catch (error) {
      // The server may still be starting, or the plug-in may be waiting for its host.
      if (
        !hasCode(error, 'PEER_UNAVAILABLE', 'HOST_UNREACHABLE', 'HOST_NOT_READY', 'ENROLMENT_THROTTLED', 'DEADLINE_EXCEEDED') ||
        performance.now() >= until
      )
        throw error;
      if (attempt === 0) logger.info('waiting for the server to enrol', { endpoint, code: error.code });
      await pause(error.retryDelayMs ?? Math.min(firstPauseMs * 2 ** attempt, longestPauseMs), options.signal);
    }
  }
}

function isOver(identity: ProcessIdentity): boolean {
  return Date.parse(identity.certificate.validTo) <= Date.now();
}

function readToken({ enrolmentToken, enrolmentTokenFile }: EnrolmentSettings, field: string): string {
  if (enrolmentToken !== undefined) return enrolmentToken;
  if (enrolmentTokenFile === undefined) {
    throw CommonErrors.ENROLMENT_TOKEN_INVALID({ why: 'none was given, and this process has no certificate yet' });
  }
  try {
    return fs.readFileSync(enrolmentTokenFile, 'utf8').trim();
  } catch (cause) {
    throw CommonErrors.CONFIGURATION_INVALID(
      { problems: `- ${field}.enrolmentTokenFile: ${enrolmentTokenFile} cannot be read` },
      { cause },
    );
  }
}
