/** Locations on shares: mounted by the administrator (`nfs:/mnt/backup`), or by the mover itself (`nfs:server:/export`, `smb://server/share`). */
import path from 'node:path';
import { RepositoryErrors } from '../../errors/mover-errors';

export type ShareKind = 'nfs' | 'smb';

/** A folder on a share that somebody else mounts. */
export interface MountedShare {
  readonly kind: ShareKind;
  readonly folder: string;
}

/** A share that the mover mounts. */
export interface RemoteShare {
  readonly kind: ShareKind;
  /** As mount(8) wants it: `server:/export` or `//server/share`. */
  readonly source: string;
  /** Folder below what is mounted; empty for its root. */
  readonly subfolder: string;
  readonly version: string | undefined;
  readonly port: number | undefined;
}

export type ShareLocation = MountedShare | RemoteShare;

export function isShareLocation(location: string): boolean {
  return /^(nfs|smb):/.test(location);
}

export function isRemote(share: ShareLocation): share is RemoteShare {
  return 'source' in share;
}

const versions = { nfs: /^(3|4|4\.[012])$/, smb: /^(2\.1|3|3\.0|3\.0\.2|3\.1\.1)$/ };
/** Names and addresses, IPv6 in brackets. */
const host = String.raw`(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.%]+\])`;

/**
 * Reads `nfs:/absolute/path`, `smb:/absolute/path`, `nfs:server:/export[?version=4.2&port=2049]` and
 * `smb://server/share[/path][?version=3.1.1&port=445]`. Throws REPOSITORY_LOCATION_INVALID.
 */
export function parseShareLocation(location: string): ShareLocation {
  const invalid = (problem: string) => RepositoryErrors.REPOSITORY_LOCATION_INVALID({ field: 'location', location, problem });
  const kind = location.slice(0, 3) as ShareKind;
  const rest = location.slice(4);
  // A line feed or a comma would end up as another option of mount.
  if (/[\x00-\x1f,]/.test(rest)) throw invalid('it has characters that no share can have');
  if (/^\/(?!\/)/.test(rest)) return { kind, folder: path.resolve(rest) };
  const [place = '', query = ''] = splitOnce(rest, '?');
  const options = new URLSearchParams(query);
  for (const name of options.keys()) if (name !== 'version' && name !== 'port') throw invalid(`"${name}" is no option of it`);
  const version = options.get('version') ?? undefined;
  if (version !== undefined && !versions[kind].test(version)) throw invalid(`"${version}" is no version of it that is known`);
  const port = options.has('port') ? Number(options.get('port')) : undefined;
  if (port !== undefined && !(Number.isInteger(port) && port >= 1 && port <= 65535)) throw invalid('its port is none');
  if (place.split('/').includes('..')) throw invalid('it leads upwards');
  if (kind === 'nfs') {
    const match = new RegExp(`^(${host}):(/.*)$`).exec(place);
    if (!match) throw invalid('it has to be "nfs:/mounted/folder" or "nfs:server:/export"');
    return { kind, source: `${match[1]}:${path.posix.normalize(match[2] ?? '/').replace(/(.)\/$/, '$1')}`, subfolder: '', version, port };
  }
  const match = new RegExp(`^//(${host})/([^/]+)(/.*)?$`).exec(place);
  if (!match) throw invalid('it has to be "smb:/mounted/folder" or "smb://server/share"');
  const subfolder = path.posix.normalize(match[3] ?? '/').replace(/^\/|\/$/g, '');
  return { kind, source: `//${match[1]}/${match[2]}`, subfolder, version, port };
}

/** The one way to write a location. */
export function formatShareLocation(share: ShareLocation): string {
  if (!isRemote(share)) return `${share.kind}:${share.folder}`;
  const options = new URLSearchParams();
  if (share.version !== undefined) options.set('version', share.version);
  if (share.port !== undefined) options.set('port', String(share.port));
  const subfolder = share.subfolder === '' ? '' : `/${share.subfolder}`;
  return `${share.kind}:${share.source}${subfolder}${options.size === 0 ? '' : `?${options}`}`;
}

function splitOnce(text: string, by: string): [string, string] {
  const at = text.indexOf(by);
  return at === -1 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}
