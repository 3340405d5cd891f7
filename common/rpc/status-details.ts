import { status as Status } from '@grpc/grpc-js';
import { loadMessages } from '../../proto/loader';
import { TidemarkError } from '../errors/tidemark-error';
import type { ErrorKind, ErrorMeta, RetryAdvice, StatusName } from '../errors/tidemark-error';

/**
 * Rich status bytes: google.rpc.Status with ErrorInfo (reason = our code, domain = serving process, metadata = meta), RetryInfo
 * where a delay is known, and our FailureDetail. They travel in the trailer `grpc-status-details-bin`, below 4 KiB.
 */
export const statusDetailsKey = 'grpc-status-details-bin';

/** gRPC trailers above 8 KiB are refused by default in several implementations; half of it leaves room for the rest. */
const maxDetailBytes = 4096;

const root = loadMessages('google/rpc/status.proto', 'google/rpc/error_details.proto', 'tidemark/common/v1/failure.proto');
const RpcStatus = root.lookupType('google.rpc.Status');
const ErrorInfo = root.lookupType('google.rpc.ErrorInfo');
const RetryInfo = root.lookupType('google.rpc.RetryInfo');
const FailureDetail = root.lookupType('tidemark.common.v1.FailureDetail');

const kinds: readonly ErrorKind[] = ['failure', 'operational', 'bug'];
const advices: readonly RetryAdvice[] = ['never', 'same-request', 'after-delay', 'after-operator', 'full-backup', 'fresh-ticket'];

/** Number of an advice in tidemark.common.v1.RetryAdvice; also used by the Data Mover's Error frame. */
export function adviceNumber(advice: RetryAdvice): number {
  return advices.indexOf(advice) + 1;
}

/** The advice of a number; `never` for numbers of a newer peer. */
export function adviceOf(number: number): RetryAdvice {
  return advices[number - 1] ?? 'never';
}

function any(type: string, value: Uint8Array) {
  return { type_url: `type.googleapis.com/${type}`, value };
}

/** Serialises an error; meta is dropped when the whole would be too large. */
export function encodeStatusDetails(error: TidemarkError, domain: string): Buffer {
  const build = (meta: ErrorMeta): Buffer => {
    const text = Object.fromEntries(Object.entries(meta).map(([key, value]) => [key, String(value)]));
    const delay =
      error.retryDelayMs === undefined
        ? undefined
        : { seconds: Math.floor(error.retryDelayMs / 1000), nanos: (error.retryDelayMs % 1000) * 1_000_000 };
    const details = [
      any('google.rpc.ErrorInfo', ErrorInfo.encode({ reason: error.code, domain, metadata: text }).finish()),
      any(
        'tidemark.common.v1.FailureDetail',
        FailureDetail.encode({
          code: error.code,
          kind: kinds.indexOf(error.kind) + 1,
          retry: adviceNumber(error.retry),
          retryDelay: delay,
          message: error.message,
          correlationId: error.correlationId ?? '',
          meta: text,
        }).finish(),
      ),
    ];
    if (delay) details.push(any('google.rpc.RetryInfo', RetryInfo.encode({ retryDelay: delay }).finish()));
    return Buffer.from(RpcStatus.encode({ code: Status[error.status], message: error.message, details }).finish());
  };
  const whole = build(error.meta);
  return whole.length <= maxDetailBytes ? whole : build({});
}

/** The error inside status bytes, or undefined when there is none of ours (older or foreign peer). */
export function decodeStatusDetails(bytes: Uint8Array, statusName: StatusName): TidemarkError | undefined {
  try {
    const outer = RpcStatus.toObject(RpcStatus.decode(bytes)) as { details?: { type_url?: string; value?: Uint8Array }[] };
    const detail = outer.details?.find((d) => d.type_url?.endsWith('/tidemark.common.v1.FailureDetail'));
    if (!detail?.value) return undefined;
    const failure = FailureDetail.toObject(FailureDetail.decode(detail.value), { longs: Number }) as {
      code: string;
      kind?: number;
      retry?: number;
      message?: string;
      correlationId?: string;
      retryDelay?: { seconds?: number; nanos?: number };
      meta?: Record<string, string>;
    };
    return new TidemarkError(
      {
        code: failure.code,
        kind: kinds[(failure.kind ?? 0) - 1] ?? 'bug',
        retry: adviceOf(failure.retry ?? 0),
        status: statusName,
      },
      failure.message ?? failure.code,
      {
        meta: failure.meta ?? {},
        retryDelayMs: failure.retryDelay
          ? Number(failure.retryDelay.seconds ?? 0) * 1000 + Math.round((failure.retryDelay.nanos ?? 0) / 1_000_000)
          : undefined,
        correlationId: failure.correlationId === '' ? undefined : failure.correlationId,
      },
    );
  } catch {
    // Bytes of a foreign or newer peer: the plain status code decides.
    return undefined;
  }
}
