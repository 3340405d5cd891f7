/** Certificates and their rotation. */
import * as S from '../schemas';
import type { Route } from './route';

export const certificateRoutes = {
  certificateList: {
    method: 'GET',
    path: '/certificates',
    summary: 'Every certificate that matters, with the days left.',
    query: S.CertificateQuery,
    reply: S.Lists.certificates,
  },
  trustBundle: {
    method: 'GET',
    path: '/certificates/trust-bundle',
    summary: 'The CAs to trust. Each answer has their fingerprints in "tidemark-trust"; fetch this when they change.',
    reply: S.TrustBundle,
  },
  rotationShow: {
    method: 'GET',
    path: '/certificates/rotation',
    summary: 'How far a rotation is, and who is missing.',
    reply: S.RotationState,
  },
  identityRevoke: {
    method: 'POST',
    path: '/certificates/revoke',
    summary: 'A plug-in, mover or worker is gone for good: it gets no certificate any more, and nobody waits for it.',
    body: S.RevokeRequest,
  },
  certificatesRotate: {
    method: 'POST',
    path: '/certificates/rotate',
    summary: 'Issue every certificate anew now.',
    body: S.RotateRequest,
    reply: S.RotationReply,
  },
  authorityRotate: {
    method: 'POST',
    path: '/certificates/rotate-authority',
    summary: 'A new CA beside the old one, which goes when everybody has the new one.',
    body: S.RotateAuthorityRequest,
    reply: S.RotationReply,
  },
} as const satisfies Record<string, Route>;
