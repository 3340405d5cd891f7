/** The engine's own well-known ids. */
export const BLANK_TEMPLATE_ID = '00000000-0000-0000-0000-000000000000';
export const ROOT_TAG_ID = '00000000-0000-0000-0000-000000000000';
