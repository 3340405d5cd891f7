import type { PeerCertificate } from 'node:tls';

/** What a certificate of our CA says its bearer is. Written as the URI name `tidemark:<role>:<id>`. */
export type Role = 'host' | 'plugin' | 'mover' | 'worker';

export const roles: readonly Role[] = ['host', 'plugin', 'mover', 'worker'];

export interface PeerIdentity {
  readonly role: Role;
  /** Registry id of the plug-in, mover or worker; the installation id for the host. */
  readonly id: string;
}

/** The URI subject alternative name that carries an identity. */
export function identityUri(identity: PeerIdentity): string {
  return `tidemark:${identity.role}:${identity.id}`;
}

/** Reads the identity from a verified certificate; undefined when it carries none of ours. */
export function peerIdentity(certificate: Pick<PeerCertificate, 'subjectaltname'> | undefined): PeerIdentity | undefined {
  for (const name of certificate?.subjectaltname?.split(', ') ?? []) {
    const match = /^URI:tidemark:([a-z]+):([0-9A-Za-z-]+)$/.exec(name);
    const role = roles.find((r) => r === match?.[1]);
    if (role && match?.[2]) return { role, id: match[2] };
  }
  return undefined;
}
