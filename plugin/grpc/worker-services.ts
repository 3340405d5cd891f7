/** worker.v1, served to workers: the task stream and certificates on the mutual TLS port, enrolment on its own. */
import type { Server } from '@grpc/grpc-js';
import { hasCode } from '../../common/errors/tidemark-error';
import { CommonErrors } from '../../common/errors/common-errors';
import { serve } from '../../common/rpc/serve';
import type { CallContext, ServeOptions } from '../../common/rpc/serve';
import { loadService } from '../../proto/loader';
import type { EnrolmentApplication__Output } from '../../proto/gen/tidemark/common/v1/EnrolmentApplication';
import type { IssuedCertificate__Output } from '../../proto/gen/tidemark/common/v1/IssuedCertificate';
import type { WorkerEnrolmentServiceDefinition } from '../../proto/gen/tidemark/worker/v1/WorkerEnrolmentService';
import type { WorkerServiceDefinition } from '../../proto/gen/tidemark/worker/v1/WorkerService';
import { OperationErrors } from '../operations/operation-errors';
import type { ConnectedFleet } from '../workers/connected-fleet';
import { WorkerErrors } from '../workers/worker-errors';

const file = 'tidemark/worker/v1/worker_service.proto';

/** What only the host can do for a worker; the caller's part of the plug-in has the line to it. */
export interface WorkerCertificates {
  enrolWorker(application: EnrolmentApplication__Output): Promise<{ certificate: IssuedCertificate__Output | null; workerId: string }>;
  renewWorkerCertificate(workerId: string, certificateRequestPem: string): Promise<IssuedCertificate__Output | null>;
}

/** Who may not connect now. */
export interface WorkerAdmission {
  isStopping(): boolean;
  /** The worker was removed for good. */
  isRemoved(workerId: string): boolean;
}

/** On the mutual TLS port. */
export function serveWorkers(
  server: Server,
  fleet: ConnectedFleet,
  certificates: WorkerCertificates,
  admission: WorkerAdmission,
  options: ServeOptions,
): void {
  serve<WorkerServiceDefinition>(
    server,
    loadService(file, 'tidemark.worker.v1.WorkerService').service,
    {
      Connect: {
        roles: ['worker'],
        bidi: (requests, context) => {
          if (admission.isStopping()) throw OperationErrors.PLUGIN_STOPPING({});
          const workerId = workerIdOf(context);
          // Its certificate may be good for days yet.
          if (admission.isRemoved(workerId)) throw CommonErrors.IDENTITY_REVOKED({ id: workerId });
          return fleet.connect(workerId, requests);
        },
      },
      RenewCertificate: {
        roles: ['worker'],
        unary: async (request, context) => ({
          certificate: await throughHost(() => certificates.renewWorkerCertificate(workerIdOf(context), request.certificateRequestPem)),
        }),
      },
    },
    options,
  );
}

/** On the enrolment port, where nobody has a certificate yet: the token is the authority, and the host checks it. */
export function serveWorkerEnrolment(
  server: Server,
  certificates: WorkerCertificates,
  options: ServeOptions,
  /** Told of tokens that the host does not take, before the worker is. */
  refused: (token: string) => void = () => undefined,
): void {
  serve<WorkerEnrolmentServiceDefinition>(
    server,
    loadService(file, 'tidemark.worker.v1.WorkerEnrolmentService').service,
    {
      Enrol: {
        roles: 'anyone',
        unary: async ({ application }) => {
          if (!application) throw CommonErrors.ARGUMENT_INVALID({ field: 'application', problem: 'is missing' });
          try {
            return await throughHost(() => certificates.enrolWorker(application));
          } catch (error) {
            if (hasCode(error, 'ENROLMENT_TOKEN_INVALID')) refused(application.token);
            throw error;
          }
        },
      },
    },
    options,
  );
}

async function throughHost<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (hasCode(error, 'PEER_UNAVAILABLE', 'DEADLINE_EXCEEDED')) throw WorkerErrors.HOST_UNREACHABLE({}, { cause: error });
    throw error;
  }
}

function workerIdOf(context: CallContext): string {
  if (!context.peer) throw CommonErrors.CERTIFICATE_REQUIRED({ method: 'WorkerService' });
  return context.peer.id;
}
