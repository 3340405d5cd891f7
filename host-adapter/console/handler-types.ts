import type { z } from 'zod';
import type { LoggedIn } from '../identity/users';
import type { routes, RouteName } from './routes';

type Output<R, K extends string> = R extends Readonly<Record<K, infer T extends z.ZodType>> ? z.output<T> : Record<string, never>;

/** What a handler gets: all of it checked. */
export interface Call<N extends RouteName> {
  /** The `:id` of the path; empty where there is none. */
  readonly id: string;
  readonly query: Output<(typeof routes)[N], 'query'>;
  readonly body: Output<(typeof routes)[N], 'body'>;
  /** Throws LOGIN_REQUIRED on open routes. */
  readonly login: LoggedIn;
  readonly remoteAddress: string;
}

export type Reply<N extends RouteName> = (typeof routes)[N] extends { readonly reply: infer T extends z.ZodType } ? z.output<T> : void;

export type Handler<N extends RouteName> = (call: Call<N>) => Promise<Reply<N>>;

/** All routes but the stream, which writes its own answer. */
export type Handlers = { readonly [N in Exclude<RouteName, 'sessionEvents'>]: Handler<N> };
