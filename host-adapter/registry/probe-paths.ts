import { timestampToWire } from '../../common/rpc/bytes';
import { signTicket } from '../../common/tickets/ticket';
import type { ProbePath } from '../../proto/gen/tidemark/host/v1/ProbePath';
import type { CertificateAuthority } from '../identity/certificate-authority';
import type { MoverRegistry } from './mover-registry';

const lifetimeMs = 15 * 60_000;

/** The way to every connected mover, with tickets that allow nothing but measuring it. */
export async function createProbePaths(
  movers: Pick<MoverRegistry, 'list'>,
  authority: Pick<CertificateAuthority, 'ticketSigningKey'>,
  now: Date,
): Promise<ProbePath[]> {
  const expiresAt = new Date(now.getTime() + lifetimeMs);
  const nothing = { sessionId: '', repositoryId: '', pointIds: [] };
  return (await movers.list()).flatMap(({ identity, registration, connected }) => {
    if (!connected || !registration) return [];
    return [
      {
        moverId: identity.id,
        name: identity.hostName,
        dataPath: {
          endpoints: JSON.parse(registration.dataEndpointsJson) as string[],
          serverName: '',
          ticket: signTicket({ ...nothing, rights: ['probe'], expiresAt }, authority.ticketSigningKey),
          sessionId: '',
          repositoryId: '',
          expiresAt: timestampToWire(expiresAt),
        },
      },
    ];
  });
}
