import { X509Certificate } from 'node:crypto';
import { credentials } from '@grpc/grpc-js';
import type { RefusalServiceDefinition } from '../../proto/gen/tidemark/host/v1/RefusalService';
import { loadService } from '../../proto/loader';
import { CommonErrors } from '../errors/common-errors';
import type { TidemarkError } from '../errors/tidemark-error';
import { RpcClient } from '../rpc/call';
import { diagnoseCertificates } from './diagnose';
import type { ProcessIdentity } from './identity';

const definition = loadService('tidemark/host/v1/refusal_service.proto', 'tidemark.host.v1.RefusalService').service;

/**
 * {@link diagnoseCertificates} for processes that talk to the server itself: when it does not accept the certificate, it is asked why at its
 * enrolment port, which also lets the administrator know. What it answers is not verified (the process may not trust its CA of now), and
 * so only goes into the message.
 * @param enrolmentEndpoint undefined: it is not known, and nobody is asked
 */
export async function diagnoseAtHost(
  endpoint: string,
  enrolmentEndpoint: string | undefined,
  identity: ProcessIdentity,
): Promise<TidemarkError | undefined> {
  const found = await diagnoseCertificates(endpoint, identity);
  if (!found || enrolmentEndpoint === undefined) return found;
  const code = await askWhy(enrolmentEndpoint, new X509Certificate(identity.material.certificateChainPem).serialNumber);
  if (code === undefined) return found;
  return CommonErrors.CERTIFICATE_NOT_ACCEPTED({ peer: endpoint, why: `${String(found.meta['why'])}; the server says ${code}` });
}

async function askWhy(endpoint: string, serialNumber: string): Promise<string | undefined> {
  const unverified = { rejectUnauthorized: false, checkServerIdentity: () => undefined };
  const client = new RpcClient<RefusalServiceDefinition>(definition, endpoint, credentials.createSsl(null, null, null, unverified));
  try {
    const { code } = await client.call('ExplainRefusal', { serialNumber }, { deadlineMs: 5_000 });
    // From anybody, into a log.
    return /^[A-Z][A-Z_]{2,40}$/.test(code) ? code : undefined;
  } catch {
    // An older server, or none: what was found without it has to do.
    return undefined;
  } finally {
    client.close();
  }
}
