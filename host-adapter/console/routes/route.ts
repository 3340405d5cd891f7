import type { z } from 'zod';

export interface Route {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  /** Below /api/v1; `:id` takes an id or a name. */
  readonly path: string;
  readonly summary: string;
  readonly query?: z.ZodObject;
  readonly body?: z.ZodObject;
  /** Absent: 204 without a body. */
  readonly reply?: z.ZodType;
  readonly status?: 200 | 201 | 202;
  /** Needs no login. */
  readonly open?: true;
  /** Reads only, although it is a POST: not in the audit log. */
  readonly reads?: true;
  /** Answers text/event-stream. */
  readonly stream?: true;
}
