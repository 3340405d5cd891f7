import type { Server } from '@grpc/grpc-js';
import { CommonErrors } from '../../common/errors/common-errors';
import { durationFromWire, durationToWire, timestampToWire } from '../../common/rpc/bytes';
import { serve } from '../../common/rpc/serve';
import type { CallContext, ServeOptions } from '../../common/rpc/serve';
import type { EnrolmentApplication__Output } from '../../proto/gen/tidemark/common/v1/EnrolmentApplication';
import type { CertificateServiceDefinition } from '../../proto/gen/tidemark/host/v1/CertificateService';
import type { EnrolmentServiceDefinition } from '../../proto/gen/tidemark/host/v1/EnrolmentService';
import type { MoverRegistryServiceDefinition } from '../../proto/gen/tidemark/host/v1/MoverRegistryService';
import type { RefusalServiceDefinition } from '../../proto/gen/tidemark/host/v1/RefusalService';
import type { PluginRegistryServiceDefinition } from '../../proto/gen/tidemark/host/v1/PluginRegistryService';
import type { WorkerTrustOrder } from '../../proto/gen/tidemark/host/v1/WorkerTrustOrder';
import type { WorkerTrustState__Output } from '../../proto/gen/tidemark/host/v1/WorkerTrustState';
import { loadService } from '../../proto/loader';
import type { CertificateAuthority } from '../identity/certificate-authority';
import { defaultTokenLifetimeMs } from '../identity/enrolment';
import type { Application, EnrolledRole, Enrolment } from '../identity/enrolment';
import type { Refusals } from '../identity/refusals';
import type { Rotation } from '../identity/rotation';
import type { MoverRegistry } from './mover-registry';
import type { PluginRegistry } from './plugin-registry';
import { createProbePaths } from './probe-paths';

const definition = (file: string, name: string) => loadService(`tidemark/host/v1/${file}.proto`, `tidemark.host.v1.${name}`).service;
const maxTokenLifetimeMs = 24 * 3_600_000;
const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** EnrolmentService and RefusalService, on the port for those who have no certificate that is accepted. */
export function serveEnrolment(server: Server, enrolment: Enrolment, refusals: Refusals, options: ServeOptions): void {
  serve<RefusalServiceDefinition>(
    server,
    definition('refusal_service', 'RefusalService'),
    {
      ExplainRefusal: {
        roles: 'anyone',
        unary: async ({ serialNumber }, { remoteAddress }) => ({ code: await refusals.explain(serialNumber, remoteAddress) }),
      },
    },
    options,
  );
  serve<EnrolmentServiceDefinition>(
    server,
    definition('enrolment_service', 'EnrolmentService'),
    {
      Enrol: {
        roles: 'anyone',
        unary: async (request, context) => {
          const { subjectId, ...certificate } = await enrolment.enrol(applicationOf(request.application), ['plugin', 'mover'], context);
          return { subjectId, certificate };
        },
      },
    },
    options,
  );
}

/** CertificateService, PluginRegistryService and MoverRegistryService, on the mutual TLS port. */
export function serveRegistry(
  server: Server,
  parts: {
    readonly authority: CertificateAuthority;
    readonly enrolment: Enrolment;
    readonly plugins: PluginRegistry;
    readonly movers: MoverRegistry;
    readonly rotation: Rotation;
  },
  options: ServeOptions,
): void {
  const { authority, enrolment, plugins, movers, rotation } = parts;
  /** Its certificate is good for weeks after it was revoked. */
  const callerOf = async (context: CallContext): Promise<string> => {
    const id = idOf(context);
    await enrolment.mustBeKnown(id);
    return id;
  };
  serve<CertificateServiceDefinition>(
    server,
    definition('certificate_service', 'CertificateService'),
    {
      RenewCertificate: {
        roles: ['plugin', 'mover'],
        unary: async (request, context) => {
          const identity = { role: context.peer?.role as EnrolledRole, id: idOf(context) };
          return { certificate: await enrolment.renew(identity, request.certificateRequestPem, request.addresses) };
        },
      },
      GetTrustBundle: {
        roles: ['plugin', 'mover'],
        unary: async () => ({ trustBundlePem: authority.trustBundlePem }),
      },
    },
    options,
  );
  serve<PluginRegistryServiceDefinition>(
    server,
    definition('plugin_registry_service', 'PluginRegistryService'),
    {
      RegisterPlugin: {
        roles: ['plugin'],
        unary: async (request, context) => {
          const { leaseId, enabled, acknowledged } = await plugins.register(idOf(context), request);
          return { leaseId, leaseDuration: durationToWire(plugins.leaseMs), enabled, acknowledgedEventSequence: acknowledged };
        },
      },
      Heartbeat: {
        roles: ['plugin'],
        unary: async (request, context) => {
          const id = idOf(context);
          const { enabled } = await plugins.heartbeat(id, request.leaseId);
          const workers = await workerOrders(enrolment, rotation, id, request.workers);
          return {
            leaseDuration: durationToWire(plugins.leaseMs),
            enabled,
            trust: (await rotation.report(id, request.trust)) ?? null,
            workers,
          };
        },
      },
      StreamEvents: {
        roles: ['plugin'],
        bidi: async function* (requests, context) {
          // Not for-await: leaving such a loop by a throw destroys the stream, and the refusal would never reach the plug-in.
          const iterator = requests[Symbol.asyncIterator]();
          for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) {
            const { leaseId, events } = next.value;
            yield { acknowledgedSequence: await plugins.takeEvents(await callerOf(context), leaseId, events) };
          }
        },
      },
      EnrolWorker: {
        roles: ['plugin'],
        unary: async (request, context) => {
          const through = await callerOf(context);
          const { subjectId, ...certificate } = await enrolment.enrol(applicationOf(request.application), ['worker'], {
            remoteAddress: `plugin ${through}`,
            through,
          });
          return { workerId: subjectId, certificate };
        },
      },
      RenewWorkerCertificate: {
        roles: ['plugin'],
        unary: async (request, context) => {
          const identity = { role: 'worker' as const, id: request.workerId };
          return { certificate: await enrolment.renew(identity, request.certificateRequestPem, undefined, await callerOf(context)) };
        },
      },
      CreateWorkerToken: {
        roles: ['plugin'],
        unary: async (request, context) => {
          const { requestId, workerId } = request;
          if (requestId === '') throw CommonErrors.ARGUMENT_INVALID({ field: 'requestId', problem: 'is missing' });
          if (workerId !== '' && !uuid.test(workerId)) throw CommonErrors.ARGUMENT_INVALID({ field: 'workerId', problem: 'is not a UUID' });
          const lifetimeMs = Math.min(durationFromWire(request.lifetime) || defaultTokenLifetimeMs, maxTokenLifetimeMs);
          const wanted = { requestId, workerId: workerId === '' ? undefined : workerId, lifetimeMs };
          const { token, subjectId, expiresAt } = await enrolment.createWorkerToken(await callerOf(context), wanted);
          return { token, workerId: subjectId, expiresAt: timestampToWire(expiresAt) };
        },
      },
      RevokeWorker: {
        roles: ['plugin'],
        unary: async (request, context) => {
          await enrolment.revokeWorker(request.workerId, await callerOf(context));
          return {};
        },
      },
      CreateProbePaths: {
        roles: ['plugin'],
        unary: async (_request, context) => {
          await callerOf(context);
          return { paths: await createProbePaths(movers, authority, new Date()) };
        },
      },
    },
    options,
  );
  serve<MoverRegistryServiceDefinition>(
    server,
    definition('mover_registry_service', 'MoverRegistryService'),
    {
      RegisterMover: {
        roles: ['mover'],
        unary: async (request, context) => ({
          leaseId: (await movers.register(idOf(context), request)).leaseId,
          leaseDuration: durationToWire(movers.leaseMs),
          ticketPublicKeysPem: authority.ticketPublicKeysPem,
        }),
      },
      MoverHeartbeat: {
        roles: ['mover'],
        unary: async (request, context) => {
          const id = await callerOf(context);
          await movers.heartbeat(id, request.leaseId);
          const trust = (await rotation.report(id, request.trust)) ?? null;
          return { leaseDuration: durationToWire(movers.leaseMs), ticketPublicKeysPem: authority.ticketPublicKeysPem, trust };
        },
      },
    },
    options,
  );
}

/** Only of workers that enrolled through the plug-in which tells. */
async function workerOrders(
  enrolment: Enrolment,
  rotation: Rotation,
  pluginId: string,
  told: readonly WorkerTrustState__Output[],
): Promise<WorkerTrustOrder[]> {
  const orders: WorkerTrustOrder[] = [];
  for (const { workerId, trust } of told) {
    if (!(await enrolment.isWorkerOf(workerId, pluginId))) continue;
    const order = await rotation.report(workerId, trust);
    if (order) orders.push({ workerId, order });
  }
  return orders;
}

function idOf(context: CallContext): string {
  if (!context.peer) throw CommonErrors.CERTIFICATE_REQUIRED({ method: 'this call' });
  return context.peer.id;
}

function applicationOf(sent: EnrolmentApplication__Output | null): Application {
  if (!sent) throw CommonErrors.ARGUMENT_INVALID({ field: 'application', problem: 'is missing' });
  return {
    token: sent.token,
    certificateRequestPem: sent.certificateRequestPem,
    addresses: sent.addresses,
    instanceId: sent.process?.instanceId ?? '',
    hostName: sent.process?.hostName ?? '',
    version: sent.process?.version ?? '',
  };
}
