/** Codes of the events that the janitor reports to the host; they are not thrown. */
export const janitorEvents = { removed: 'LEFTOVER_REMOVED', stuck: 'LEFTOVER_STUCK' } as const;
