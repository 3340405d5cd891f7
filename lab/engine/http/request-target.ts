import { QueryParameters } from './query-parameters';

/** A request line taken apart: path without matrix parameters, and parameters with the query before the matrix. */
export interface RequestTarget {
  readonly path: string;
  readonly query: QueryParameters;
}

/** `/ovirt-engine/api/vms;max=3?search=x`: matrix parameters count on the last segment only. */
export function parseTarget(url: string): RequestTarget {
  const question = url.indexOf('?');
  const rawPath = question < 0 ? url : url.slice(0, question);
  const segments = rawPath.split('/');
  const matrix = (segments.at(-1) ?? '').split(';').slice(1);
  const path = segments.map((segment) => decode(segment.split(';')[0] ?? '')).join('/');
  const query = question < 0 ? [] : [...new URLSearchParams(url.slice(question + 1))];
  const fromMatrix = matrix.map((text): [string, string] => {
    const equals = text.indexOf('=');
    return equals < 0 ? [decode(text), ''] : [decode(text.slice(0, equals)), decode(text.slice(equals + 1))];
  });
  return { path, query: new QueryParameters([...query, ...fromMatrix]) };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    // A broken escape is part of no name that we know: the path will not be found.
    return text;
  }
}

/** Keeps `[0-9A-Za-z_-]`, at most 36 characters; undefined when nothing is left. */
export function cleanCorrelationId(text: string | undefined): string | undefined {
  const clean = (text ?? '').replaceAll(/[^0-9A-Za-z_-]/g, '').slice(0, 36);
  return clean === '' ? undefined : clean;
}

/** Which of the two formats a client wants; XML unless it prefers JSON. */
export function wantedFormat(accept: string | undefined): 'json' | 'xml' {
  let best: { format: 'json' | 'xml'; quality: number } = { format: 'xml', quality: 0 };
  for (const part of (accept ?? '').split(',')) {
    const [type = '', ...parameters] = part.split(';').map((text) => text.trim().toLowerCase());
    const quality = Number(parameters.find((text) => text.startsWith('q='))?.slice(2) ?? 1);
    const format =
      type === 'application/json' ? 'json' : ['application/xml', 'text/xml', '*/*', 'application/*'].includes(type) ? 'xml' : undefined;
    if (format && quality > best.quality) {
      best = { format, quality };
    }
  }
  return best.format;
}
