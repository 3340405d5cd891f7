import type { CertificateAuthority } from '../identity/certificate-authority';
import type { CertificateWatch } from '../identity/certificate-watch';
import type { Enrolment } from '../identity/enrolment';
import type { PeerStanding, Rotation } from '../identity/rotation';
import type { Handlers } from './handler-types';

type Names = 'certificateList' | 'trustBundle' | 'rotationShow' | 'identityRevoke' | 'certificatesRotate' | 'authorityRotate';

const dayMs = 86_400_000;

/** Certificates and their rotation. */
export function certificateHandlers(parts: {
  readonly authority: CertificateAuthority;
  readonly rotation: Rotation;
  readonly watch: CertificateWatch;
  readonly enrolment: Enrolment;
  /** Throws IN_USE when a repository or a platform needs the process. */
  mustNotNeed(id: string): Promise<void>;
  now(): Date;
}): Pick<Handlers, Names> {
  const { authority, rotation, watch, enrolment } = parts;
  const everybody = async () => (await rotation.standings()).filter((peer) => peer.awaited).map(peerView);
  return {
    certificateList: async ({ query }) => ({ items: await watch.list(query.refresh) }),
    trustBundle: async () => ({ caPem: authority.trustBundlePem }),
    rotationShow: async () => {
      const { rotation: running, leavesSince, finished } = authority.state;
      const missing = running || leavesSince !== undefined ? await rotation.missing() : [];
      return {
        overlap: running ? { startedAt: running.startedAt, endsAt: running.overlapEndsAt } : null,
        authorities: authority.trustedFingerprints,
        leavesSince: leavesSince ?? null,
        missing: missing.map(peerView),
        finished: finished ?? null,
      };
    },
    identityRevoke: async ({ body }) => {
      await parts.mustNotNeed(body.id);
      await enrolment.revoke(body.id);
    },
    certificatesRotate: async ({ body, login }) => {
      const peers = await everybody();
      if (!body.dryRun) await rotation.rotateLeaves(login.name);
      return { dryRun: body.dryRun, peers, overlapEndsAt: null };
    },
    authorityRotate: async ({ body, login }) => {
      const peers = await everybody();
      if (body.dryRun) {
        authority.mustNotRotate();
        return { dryRun: true, peers, overlapEndsAt: new Date(parts.now().getTime() + body.overlapDays * dayMs).toISOString() };
      }
      await rotation.rotateAuthority(body.overlapDays, login.name);
      return { dryRun: false, peers, overlapEndsAt: authority.state.rotation?.overlapEndsAt ?? null };
    },
  };
}

function peerView({ id, role, name, connected, lastHeardAt }: PeerStanding) {
  return { id, role, name, connected, lastHeardAt: lastHeardAt?.toISOString() ?? null };
}
