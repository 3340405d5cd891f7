/**
 * The verbs that the resource files are made of: read one, read a list, read all pages, create, update, delete, act. Each knows whether it
 * may be repeated (retry.ts). Resource files know paths and fields, this file knows neither.
 */
import { hasCode } from '../../common/errors/tidemark-error';
import type { EngineRequest, EngineSession, RequestOptions } from './engine-session';
import { elementsOf } from './mapping';
import type { Wire } from './mapping';
import { createOnce, defaultRetryPolicy, whileAway } from './retry';
import type { RetryPolicy } from './retry';

export interface ReadOptions extends RequestOptions {
  readonly query?: EngineRequest['query'];
  readonly allContent?: boolean | undefined;
}

export interface PageOptions extends ReadOptions {
  /** Condition of the engine's search language; empty for all. */
  readonly search?: string;
  /** Field to sort by; pages need a fixed order. */
  readonly sortBy: string;
  /** Rows per page, default 500. */
  readonly pageSize?: number;
}

const defaultPageSize = 500;
/** More pages than any engine has: a page that never gets shorter is a defect, not a reason to go on for ever. */
const mostPages = 10_000;

export class EngineClient {
  /** Replaced when the platform gets other credentials or another certificate; requests under way end in a repeat through the new one. */
  session: EngineSession;

  constructor(
    session: EngineSession,
    private readonly policy: RetryPolicy = defaultRetryPolicy,
  ) {
    this.session = session;
  }

  /** Throws ENGINE_NOT_FOUND. */
  read(path: string, options: ReadOptions = {}): Promise<Wire> {
    return whileAway(this.policy, options.signal, () => this.session.request({ ...options, method: 'GET', path }));
  }

  async find(path: string, options: ReadOptions = {}): Promise<Wire | undefined> {
    try {
      return await this.read(path, options);
    } catch (error) {
      if (hasCode(error, 'ENGINE_NOT_FOUND')) return undefined;
      throw error;
    }
  }

  /** One list in one answer. `element` is the key of a collection answer, e.g. `disk_attachment`. */
  async list(path: string, element: string, options: ReadOptions = {}): Promise<readonly Wire[]> {
    return elementsOf(await this.read(path, options), element);
  }

  /** A long list, page by page. Rows may come twice when something changes meanwhile; the reader tells them apart by id. */
  async *pages(path: string, element: string, options: PageOptions): AsyncGenerator<readonly Wire[], void, undefined> {
    const { search, sortBy, pageSize = defaultPageSize, ...rest } = options;
    for (let page = 1; page <= mostPages; page += 1) {
      const text = `${search === undefined || search === '' ? '' : `${search} `}sortby ${sortBy} asc page ${page}`;
      const rows = await this.list(path, element, { ...rest, query: { ...rest.query, search: text, max: pageSize } });
      if (rows.length > 0) yield rows;
      if (rows.length < pageSize) return;
    }
  }

  /**
   * Creates. With `find` a lost answer is made good by looking for the entity; without, a create whose answer was lost fails with
   * ENGINE_UNAVAILABLE and the caller has to find out.
   */
  create(path: string, body: object, options: ReadOptions & { find?: () => Promise<Wire | undefined> } = {}): Promise<Wire> {
    const { find, ...rest } = options;
    const send = () => this.session.request({ ...rest, method: 'POST', path, body });
    return find ? createOnce(this.policy, options.signal, send, find) : send();
  }

  update(path: string, body: object, options: ReadOptions = {}): Promise<Wire> {
    return whileAway(this.policy, options.signal, () => this.session.request({ ...options, method: 'PUT', path, body }));
  }

  /** False when there was nothing to delete. Most deletes only begin: watch the entity go. */
  async remove(path: string, options: ReadOptions = {}): Promise<boolean> {
    try {
      await whileAway(this.policy, options.signal, () => this.session.request({ ...options, method: 'DELETE', path }));
      return true;
    } catch (error) {
      if (hasCode(error, 'ENGINE_NOT_FOUND')) return false;
      throw error;
    }
  }

  /** An action; sent once, since most are not safe to repeat. */
  act(path: string, body: object = {}, options: ReadOptions = {}): Promise<Wire> {
    return this.session.request({ ...options, method: 'POST', path, body });
  }

  /** An action that may be sent twice without harm. */
  actAgain(path: string, body: object = {}, options: ReadOptions = {}): Promise<Wire> {
    return whileAway(this.policy, options.signal, () => this.act(path, body, options));
  }
}

/** Text inside a search: quoted; the quote itself cannot be searched for. */
export function quoted(text: string): string {
  return `"${text.replaceAll('"', '')}"`;
}
