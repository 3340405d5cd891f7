import type { EnrolmentServiceDefinition } from '../../proto/gen/tidemark/host/v1/EnrolmentService';
import { loadService } from '../../proto/loader';
import { RpcClient } from '../rpc/call';
import type { ProcessIdentity } from './identity';
import { obtainIdentity } from './obtain-identity';
import type { ObtainIdentityOptions } from './obtain-identity';

const definition = loadService('tidemark/host/v1/enrolment_service.proto', 'tidemark.host.v1.EnrolmentService').service;

/** {@link obtainIdentity} for processes that enrol at the server itself: plug-ins and movers. */
export function enrolAtHost(options: Omit<ObtainIdentityOptions, 'field' | 'server' | 'apply'>): Promise<ProcessIdentity> {
  return obtainIdentity({
    ...options,
    field: 'host',
    server: 'host',
    apply: async (endpoint, credentials, application) => {
      const client = new RpcClient<EnrolmentServiceDefinition>(definition, endpoint, credentials);
      try {
        // Repeated with the same certificate request, so that a lost answer is fetched again.
        return (await client.call('Enrol', { application }, { deadlineMs: 15_000, attempts: 3, signal: options.signal })).certificate;
      } finally {
        client.close();
      }
    },
  });
}
