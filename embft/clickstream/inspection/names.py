"""Usual names of fields and actions, the likelier first; compared without case and punctuation."""

import re

from embft.log_config import Action

_FIELD_NAMES: dict[str, str] = {
    "time": "time timestamp ts event_time event_timestamp datetime created_at occurred_at timestamp_ms time_ms",
    "action": "action action_name event_name event_type event type activity kind",
    "query": "query user_query q search_term search_query query_text query_string keywords keyword search_text "
    "search_phrase search_terms term phrase",
    "shown": "shown shown_ids results result_ids impressions impression_ids shown_items displayed hits hit_ids "
    "query_response_hit_ids query_response_object_ids doc_ids item_ids product_ids skus ranking",
    "clicked": "clicked clicked_ids clicks clicked_items clicked_item clicked_id clicked_results clicked_item_id "
    "clicked_product_id clicked_products clicked_docs clicked_skus click_ids selected selected_ids click",
    "item": "item item_id product_id sku doc_id document_id object_id article_id result_id content_id product object",
    "position": "position rank ordinal pos result_position result_rank item_rank slot index",
    "search_id": "search_id query_id request_id search_request_id search_uuid query_uuid qid impression_id",
    "session_id": "session_id search_id query_id request_id search_request_id search_uuid query_uuid qid",
    "event_id": "event_id event_uuid message_id uuid id",
    "client": "client client_id user_id visitor_id customer_id shopper_id anonymous_id device_id cookie_id user "
    "visitor customer session session_id visit_id sid",
    "user_agent": "user_agent ua http_user_agent browser_user_agent browser",
    "ip": "ip ip_address client_ip remote_addr remote_ip ip_addr",
    "dwell_s": "dwell_s dwell_seconds dwell_time_s dwell_time dwell",
}
_ACTION_NAMES: dict[Action, str] = {
    "search": "search on_search search_query search_submit submit_search view_search_results query searched",
    "impression": "impression impressions item_impression product_impression result_impression view_item_list "
    "show shown displayed result_shown exposure",
    "click": "click item_click product_click result_click search_click search_result_click click_through "
    "select_item clicked view_item item_view product_view view_product product_viewed detail_view",
    "add_to_cart": "add_to_cart cart_add add_cart add_to_basket basket_add add_to_bag added_to_cart product_added",
    "purchase": "purchase order checkout buy transaction conversion order_placed order_completed bought purchased",
}


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


_RANKS = {name: {_plain(it): at for at, it in enumerate(names.split())} for name, names in _FIELD_NAMES.items()}
_ACTIONS = {_plain(it): action for action, names in _ACTION_NAMES.items() for it in names.split()}


def rank_of(path: str, field_name: str) -> float | None:
    """Say how usual a name is for a field, from 0, the most usual; None for a name that is none of the field's.

    The last part of a path counts as a name, and so do its last two together: product.id is a productId.
    """
    parts = path.split(".")
    names = (_plain(path), _plain("".join(parts[-2:])), _plain(parts[-1]))
    ranks = [_RANKS[field_name][it] for it in names if it in _RANKS[field_name]]
    return min(ranks) + (0.5 if len(parts) > 1 else 0) if ranks else None


def action_of(name: str) -> Action | None:
    """Say which action a name in a log means, or None."""
    return _ACTIONS.get(_plain(name))
